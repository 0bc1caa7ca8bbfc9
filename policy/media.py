"""What a request holds for a model to read: text, pictures, sound, files, marks of caching. Base64 isn't text."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from msgspec import Struct

from policy.ceilings import CONFIGS, NAMES

# Where the dialects keep content. Anything elsewhere is text, which base64 never undercuts.
_CONTENT: Final = frozenset(
    ("messages", "input", "contents", "system", "systemInstruction", "system_instruction", "prompt")
)
_PROMPTS: Final = ("prompt", "input")  # that may be written as token ids
# Parameters, which no model reads.
_UNREAD: Final = NAMES | {
    "model", "models", "metadata", "labels", "logit_bias", "user", "safety_identifier", "prompt_cache_key", "include",
    "stream_options", "service_tier", "safetySettings", "safety_settings", "provider",
}  # fmt: skip
_PARAMETERS: Final = CONFIGS | _UNREAD
# Keys that a provider's own words of a few tokens stand for, or that JSON Schema has; any other is text too.
_PROTOCOL: Final = frozenset((
    "role", "content", "type", "text", "parts", "name", "id", "status", "function", "functions", "description",
    "parameters", "properties", "required", "additionalProperties", "items", "enum", "strict", "default", "title",
    "format", "anyOf", "$ref", "$defs", "input_schema", "inputSchema", "json", "json_schema", "schema", "toolSpec",
    "parametersJsonSchema", "parameters_json_schema", "functionDeclarations", "function_declarations", "tool_calls",
    "tool_call_id", "call_id", "arguments", "input", "output", "toolUse", "toolResult", "toolUseId", "tool_use_id",
    "functionCall", "functionResponse", "function_call", "function_response", "args", "response", "cache_control",
    "cachePoint", "source", "media_type", "mimeType", "mime_type", "data", "image_url", "url", "detail", "summary",
    "encrypted_content", "signature", "thoughtSignature", "thought_signature", "annotations", "tools",
))  # fmt: skip

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
_ARGUMENTS: Final = frozenset(("input", "args", "json", "response"))  # of a tool, in a message: no parts are below
_CACHE_MARKS: Final = frozenset(("cache_control", "cachePoint"))
# What a provider made and checks: reasoning in its cipher, and ids. Its characters stand for fewer than text's.
_OPAQUE: Final = frozenset((
    "encrypted_content", "signature", "thoughtSignature", "thought_signature", "id", "call_id", "tool_call_id",
    "tool_use_id", "toolUseId",
))  # fmt: skip

_MAY_BE_HELD: Final = _STORED_KEYS | _OPAQUE | _BLOB_KEYS
_TELLS_KIND: Final = frozenset(("type", *_MIME_KEYS))
_Node = tuple[Any, str | None]  # with the kind of part it belongs to; None: there are no parts

# Speech is seldom under 26 kbit/s; 32 tokens a second is Gemini's rate of sound (OpenAI's is 10).
SOUND_BYTES_PER_SECOND: Final = 3_200
SOUND_BYTES_PER_TOKEN: Final = 100
# Anthropic's "1,500 to 3,000 tokens a page" of a PDF, beside the page as a picture; a file is at least one page.
_PAGE_TOKENS: Final = 5_000


class Media(Struct):
    """``texts`` are all strings that a model may read, and the keys that are no protocol's; ``keys`` counts all keys,
    ``digits`` those of numbers, ``opaque`` the characters of what only the provider can read. Tokens of sound (video
    too) and files; ``images`` are a count.

    ``stored``: a part names what only the provider holds. ``cached`` is the longest cache_ttl asked for.
    """

    texts: list[str] = []
    keys: int = 0
    digits: int = 0
    opaque: int = 0
    images: int = 0
    sound_tokens: int = 0
    file_tokens: int = 0
    stored: bool = False
    cached: str | None = None


def media(body: Any) -> Media:
    """One walk over a parsed request, in any dialect; whatever is not understood is left to be text."""
    found = Media()
    nodes: list[_Node] = []
    if isinstance(body, dict):
        _open(body, found, nodes)
    else:
        nodes.append(([body], None))
    _walk(nodes, found)
    return found


def _walk(nodes: list[_Node], found: Media) -> None:
    """All that is below those nodes, the last one first.

    Of what an estimate costs this is the most: tools' schemas and arguments are hundreds of small objects and lists.
    Hence one loop for them, exact types, and sums that are kept in it.
    """
    texts, keys, digits = found.texts, 0, 0
    while nodes:
        node, kind = nodes.pop()
        if type(node) is list:
            for item in node:
                if type(item) is str:
                    texts.append(item)
                elif type(item) is dict or type(item) is list:
                    nodes.append((item, kind))
                else:
                    digits += _digits(item)
        elif kind is not None:
            _read_part(node, kind, found, nodes)
        else:
            keys += len(node)
            for key, value in node.items():
                if key not in _PROTOCOL:
                    texts.append(key)
                if type(value) is str:
                    texts.append(value)
                elif type(value) is dict or type(value) is list:
                    if key in _CACHE_MARKS:
                        _mark_cached(value, found)
                    nodes.append((value, None))
                else:
                    digits += _digits(value)
    found.keys += keys
    found.digits += digits


def _open(body: dict[str, Any], found: Media, nodes: list[_Node]) -> None:
    """The fields of the outermost object: parameters, unless they are text or hold some."""
    for key, value in body.items():
        if isinstance(value, str):
            if key not in _PARAMETERS:
                found.texts.append(value)
        elif not isinstance(value, (dict, list)):
            continue
        elif key in CONFIGS:
            items = value.items() if isinstance(value, dict) else ()
            nodes.extend((item, None) for name, item in items if name not in _UNREAD and isinstance(item, (dict, list)))
        elif key in _UNREAD:
            continue
        elif key in _PROMPTS and isinstance(value, list) and _are_tokens(value):
            found.digits += sum(len(ids) if isinstance(ids, list) else 1 for ids in value)
        else:
            if key in _CACHE_MARKS:
                _mark_cached(value, found)
            nodes.append((value, "" if key in _CONTENT else None))


def _are_tokens(items: list[Any]) -> bool:
    """Whether it is a prompt as token ids, or a list of those: each counts once."""
    return all(type(item) is int or (isinstance(item, list) and all(type(id) is int for id in item)) for item in items)


def _read_part(node: dict[str, Any], outer: str, found: Media, nodes: list[_Node]) -> None:
    """An object of the content."""
    kind = outer
    if not _TELLS_KIND.isdisjoint(node):
        kind = _kind(node, outer)
        if kind == "image" != outer:
            found.images += 1
    texts = found.texts
    found.keys += len(node)
    for key, value in node.items():
        if key not in _PROTOCOL:
            texts.append(key)
        if type(value) is str:
            if key not in _MAY_BE_HELD or not _is_held(key, value, kind, found):
                texts.append(value)
        elif type(value) is list:
            nodes.append((value, kind))
        elif type(value) is dict:
            inner = None if key in _ARGUMENTS else _KINDS.get(key, kind)
            if inner == "image" != kind:
                found.images += 1
            if key in _CACHE_MARKS:
                _mark_cached(value, found)
            nodes.append((value, inner))
        else:
            found.digits += _digits(value)


def _is_held(key: str, value: str, kind: str, found: Media) -> bool:
    """Whether a string in the content is no text; what it stands for is counted."""
    if key in _STORED_KEYS:
        found.stored = True
        return True
    if key in _OPAQUE and value.isascii():
        found.opaque += len(value)
        return True
    return key in _BLOB_KEYS and _blob(value, kind, found)


def _kind(node: dict[str, Any], outer: str) -> str:
    stated = node.get("type")
    if stated == "text":
        return ""
    for key in _MIME_KEYS:
        if isinstance(mime := node.get(key), str):
            return _MIME_KINDS.get(mime.partition("/")[0].lower(), outer)
    return _KINDS.get(stated, outer) if isinstance(stated, str) else outer


def _blob(value: str, kind: str, found: Media) -> bool:
    if value.startswith("data:"):
        named = _MIME_KINDS.get(value[5:32].partition("/")[0].lower(), kind)
        if named == "image" != kind:
            found.images += 1
        kind = named
    elif value.startswith(("http://", "https://", "gs://", "s3://")):
        found.stored = found.stored or kind in ("sound", "file")
        return kind in ("image", "sound", "file")
    if not kind or " " in value or not value.isascii():
        return False  # text, under a name that a blob might have
    if kind == "sound":
        found.sound_tokens += len(value) * 3 // 4 // SOUND_BYTES_PER_TOKEN + 1
    elif kind == "file":
        found.file_tokens += max(_PAGE_TOKENS, len(value) // 4 + 1)  # its bytes / 3, as for text
    return True


def _digits(value: Any) -> int:
    """At least as many as a number is written with; true, false and null are part of their key's tokens."""
    if type(value) is int:
        return value.bit_length() // 3 + 1
    return len(str(value)) if isinstance(value, (Decimal, float)) else 0


def _mark_cached(mark: Any, found: Media) -> None:
    if isinstance(mark, dict):
        found.cached = "1h" if "1h" in (mark.get("ttl"), found.cached) else "5m"
