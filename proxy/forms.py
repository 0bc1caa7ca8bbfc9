"""The text fields of a form, bounded, and refused where two readers could understand it differently."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

PARTS_MAX: Final = 256
TEXT_MAX: Final = 64 * 1024  # bytes of one field
URLENCODED_MAX: Final = 1024 * 1024  # bytes as sent, without fields too long to be kept: undoing % is slow

_BOUNDARY: Final = re.compile(r";\s*boundary\*?\d*\s*=", re.I)
_QUOTED: Final = re.compile(rb'"(?:[^"\\]|\\.)*"')
_NAME: Final = re.compile(rb";\s*name\*?\d*\s*=", re.I)  # with *, RFC 2231's: forms must not use it, and some read it
_STARRED: Final = re.compile(rb";\s*filename\*", re.I)
_PLAIN: Final = (b"", b"7bit", b"8bit", b"binary")


class FormError(ValueError):
    """Not a form that every reader would understand alike. The message says why and quotes none of it."""


@dataclass(slots=True)
class Form:
    """``fields`` are the texts by name (of a list, ``name[]``, the first), without those of more than TEXT_MAX bytes.
    ``file_bytes`` is the size of all files.
    """

    fields: dict[str, str] = field(default_factory=dict)
    file_bytes: int = 0


def form_of(content_type: str, body: bytes) -> Form | None:
    """The form that a request's body is; None where it is no form, by its Content-Type.

    Raises FormError for what is malformed or cut short, of more than PARTS_MAX parts, or says a name twice: which one
    would the upstream believe?
    """
    kind, options = parse_options_header(content_type)
    if kind == b"application/x-www-form-urlencoded":
        return _urlencoded(body)
    if kind != b"multipart/form-data":
        return None
    boundary = options.get(b"boundary")
    if not boundary or len(_BOUNDARY.findall(content_type)) != 1:
        raise FormError("its boundary is not stated once")
    parts = _Parts()
    try:
        MultipartParser(boundary, parts.callbacks()).write(body)
    except FormParserError as error:
        raise FormError("it is malformed") from error
    if not parts.ended:
        raise FormError("it is cut short")
    delimiter = b"--" + boundary
    if body.count(b"\n" + delimiter) + body.startswith(delimiter) != parts.count + 1:
        raise FormError("its boundary stands inside a part")  # which some readers would end there
    return parts.form


def _urlencoded(body: bytes) -> Form:
    names = _Names()
    form = Form()
    shortened = _shortened(body)
    try:
        pairs = parse_qsl(shortened.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError as error:
        raise FormError("it is malformed") from error
    for name, text in pairs:
        if names.first(name) and len(text.encode()) <= TEXT_MAX:
            form.fields[name] = text
    return form


def _shortened(body: bytes) -> bytes:
    """The form with each value that can't be kept replaced by one that is too long as well, and quick to decode."""
    if body.count(b"&") >= PARTS_MAX:
        raise FormError(f"it has more than {PARTS_MAX} parts")
    parts = []
    left = URLENCODED_MAX
    for part in body.split(b"&"):
        name, _, value = part.partition(b"=")
        if len(value) > 3 * TEXT_MAX:
            parts.append(name + b"=" + b"-" * (TEXT_MAX + 1))
            left -= len(name)
        else:
            parts.append(part)
            left -= len(part)
    if left < 0:
        raise FormError("its texts are too long")
    return b"&".join(parts)


class _Names:
    """Which names were said, and which of them may be said again: a file's, and a list's for each of its items."""

    def __init__(self) -> None:
        self._again: dict[str, bool] = {}

    def first(self, name: str, *, is_file: bool = False) -> bool:
        """Whether it is new. Raises FormError for one that may not be said again."""
        plain = name.removesuffix("[]")
        again = is_file or plain != name
        if plain not in self._again:
            self._again[plain] = again
            return True
        if not (again and self._again[plain]):
            raise FormError("a name stands twice")
        return False


class _Parts:
    """What the parser of a multipart body reports of it. Only the texts are copied out of the body."""

    def __init__(self) -> None:
        self.form = Form()
        self.count = 0
        self.ended = False
        self._names = _Names()
        self._headers: dict[bytes, bytes] = {}
        self._header = b""
        self._name: str | None = None  # of the text that follows; None: it is not kept
        self._is_file = False
        self._text = b""

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._last,
        }

    def _begin(self) -> None:
        self.count += 1
        if self.count > PARTS_MAX:
            raise FormError(f"it has more than {PARTS_MAX} parts")
        self._headers = {}
        self._text = b""

    def _header_field(self, body: bytes, begin: int, end: int) -> None:
        self._header = body[begin:end].lower()
        if self._header in self._headers:
            raise FormError("a part says a header twice")
        self._headers[self._header] = b""

    def _header_value(self, body: bytes, begin: int, end: int) -> None:
        self._headers[self._header] = body[begin:end]

    def _headers_finished(self) -> None:
        stated = self._headers.get(b"content-disposition", b"")
        encoding = self._headers.get(b"content-transfer-encoding", b"")
        kind, options = parse_options_header(stated)
        unquoted = _QUOTED.sub(b"", stated)
        if kind != b"form-data" or len(_NAME.findall(unquoted)) != 1 or b"name" not in options:
            raise FormError("a part doesn't say its name once")
        if b'"' in unquoted or b"\n" in stated:
            raise FormError("a part's name is malformed")
        if encoding.strip().lower() not in _PLAIN:
            raise FormError("a part is encoded")
        self._is_file = b"filename" in options
        if not self._is_file and _STARRED.search(unquoted):
            raise FormError("a part is a file to some readers and a text to others")
        name = _utf8(options[b"name"])
        self._name = name if self._names.first(name, is_file=self._is_file) and not self._is_file else None

    def _data(self, body: bytes, begin: int, end: int) -> None:
        if self._is_file:
            self.form.file_bytes += end - begin
        elif self._name is not None and len(self._text) + end - begin <= TEXT_MAX:
            self._text += body[begin:end]
        else:
            self._name = None

    def _end(self) -> None:
        if self._name is not None:
            self.form.fields[self._name] = _utf8(self._text)

    def _last(self) -> None:
        self.ended = True


def _utf8(text: bytes) -> str:
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormError("it is not UTF-8") from error
    if "\0" in decoded:
        raise FormError("it is not plain text")
    return decoded
