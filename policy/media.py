"""What a request's content holds beside text: pictures, sound, files, marks of caching. Their base64 isn't text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

# Where the dialects keep content. Anything elsewhere is counted as text, which base64 never undercuts.
_CONTENT: Final = ("messages", "input", "contents", "system", "systemInstruction", "system_instruction", "prompt")

# A part by its `type` (OpenAI, Anthropic, Mistral) or by the key it stands under (Bedrock).
_KINDS: Final = {
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "computer_screenshot": "image",
    "audio": "sound",
    "input_audio": "sound",
    "audio_url": "sound",
    "video": "sound",
    "video_url": "sound",
    "document": "file",
    "document_url": "file",
    "file": "file",
    "input_file": "file",
}
_MIME_KEYS: Final = ("media_type", "mimeType", "mime_type")
_MIME_KINDS: Final = {"image": "image", "audio": "sound", "video": "sound", "application": "file", "text": "file"}
_BLOB_KEYS: Final = frozenset(
    (
        "data",
        "url",
        "bytes",
        "file_data",
        "image_url",
        "file_url",
        "audio_url",
        "video_url",
        "document_url",
        "input_audio",
    )
)
_STORED_KEYS: Final = frozenset(("file_id", "fileUri", "file_uri"))
_CACHE_MARKS: Final = ("cache_control", "cachePoint")

# 32 tokens a second is Gemini's rate of sound (OpenAI's is 10); speech is seldom under 26 kbit/s, 3,200 bytes a second.
_SOUND_BYTES_PER_TOKEN: Final = 100
# Anthropic's "1,500 to 3,000 tokens a page" of a PDF, beside the page as a picture; a file is at least one page.
_PAGE_TOKENS: Final = 5_000


@dataclass(slots=True)
class Media:
    """``blob_bytes`` of the body are base64. Tokens of sound (video too) and files; ``images`` are a count.

    ``stored``: a part names what only the provider holds. ``cached`` is the longest cache_ttl asked for.
    """

    blob_bytes: int = 0
    images: int = 0
    sound_tokens: int = 0
    file_tokens: int = 0
    stored: bool = False
    cached: str | None = None


def media(body: dict[str, Any]) -> Media:
    """One walk over the content of a parsed request, in any dialect; whatever is not understood is left to be text."""
    found = Media()
    nodes: list[tuple[Any, str]] = [(body[key], "") for key in _CONTENT if isinstance(body.get(key), (dict, list))]
    tools = body.get("tools")
    _mark_cached(body, found)
    for tool in tools if isinstance(tools, list) else ():
        if isinstance(tool, dict):
            _mark_cached(tool, found)
    while nodes:
        node, kind = nodes.pop()
        if isinstance(node, list):
            nodes.extend((item, kind) for item in node if isinstance(item, (dict, list)))
        else:
            _mark_cached(node, found)
            _visit(node, kind, found, nodes)
    return found


def _visit(node: dict[str, Any], outer: str, found: Media, nodes: list[tuple[Any, str]]) -> None:
    kind = _kind(node, outer)
    if kind == "image" != outer:
        found.images += 1
    for key, value in node.items():
        if isinstance(value, str):
            if key in _STORED_KEYS:
                found.stored = True
            elif key in _BLOB_KEYS:
                _blob(value, kind, found)
        elif isinstance(value, list):
            nodes.append((value, kind))
        elif isinstance(value, dict):
            inner = _KINDS.get(key, kind)
            if inner == "image" != kind:
                found.images += 1
            nodes.append((value, inner))


def _kind(node: dict[str, Any], outer: str) -> str:
    for key in _MIME_KEYS:
        if isinstance(mime := node.get(key), str):
            return _MIME_KINDS.get(mime.partition("/")[0].lower(), outer)
    stated = node.get("type")
    return _KINDS.get(stated, outer) if isinstance(stated, str) else outer


def _blob(value: str, kind: str, found: Media) -> None:
    if value.startswith("data:"):
        named = _MIME_KINDS.get(value[5:32].partition("/")[0].lower(), kind)
        if named == "image" != kind:
            found.images += 1
        kind = named
    elif value.startswith(("http://", "https://", "gs://", "s3://")):
        found.stored = found.stored or kind in ("sound", "file")
        return
    if not kind or " " in value or not value.isascii():
        return  # text, under a name that a blob might have
    found.blob_bytes += len(value)
    if kind == "sound":
        found.sound_tokens += len(value) * 3 // 4 // _SOUND_BYTES_PER_TOKEN + 1
    elif kind == "file":
        found.file_tokens += max(_PAGE_TOKENS, len(value) // 4 + 1)  # its bytes / 3, as for text


def _mark_cached(node: dict[str, Any], found: Media) -> None:
    for key in _CACHE_MARKS:
        if isinstance(mark := node.get(key), dict):
            found.cached = "1h" if "1h" in (mark.get("ttl"), found.cached) else "5m"
