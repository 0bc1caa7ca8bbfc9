"""Text that somebody else wrote, as it can be shown: on a page, on a terminal."""

from __future__ import annotations

import re
import unicodedata

_JOINERS = "\u200c\u200d"  # invisible, but words and emoji are spelled with them
_SUSPECT = re.compile(r"[^\x20-\x7e]")


def visible(text: str) -> str:
    """Text without what would hide or reorder it, or command a terminal: controls, line breaks, right-to-left marks and
    lone surrogates as their codes. ``a\\r\\nb`` comes out with the eight characters ``\\x0d\\x0a`` between a and b.
    """
    return _SUSPECT.sub(_code, text)


def _code(match: re.Match[str]) -> str:
    char = match.group()
    if char in _JOINERS or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return char
    return char.encode("ascii", "backslashreplace").decode() if ord(char) > 127 else f"\\x{ord(char):02x}"
