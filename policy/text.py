"""How many tokens a text may be, told from its bytes: no tokenizer is run, and none is known for most models."""

from __future__ import annotations

import re
from string import ascii_lowercase, digits
from typing import Final
from unicodedata import is_normalized, normalize

_WORDS: Final = f"{ascii_lowercase} \t\r\n".encode()
# First bytes of the characters that tokenizers know, in UTF-8. Of all others every byte counts: marks that stand by
# themselves (U+0300), Armenian, Syriac and its neighbors, emoji.
_FIRST_BYTES: Final = bytes(set(range(0xC2, 0xF0)) - {0xCC, 0xCD, 0xD4, 0xD5, 0xD6, *range(0xDC, 0xE0)})
# Digits as 0, letters as a.
_RUNS: Final = bytes.maketrans(f"{digits}{ascii_lowercase}".encode(), b"0" * len(digits) + b"a" * len(ascii_lowercase))
_RUN: Final = re.compile(b"0a")
_DIGITS: Final = digits.encode()
_FEW: Final = 8  # bytes to a digit
_RUN_BYTES: Final = 2  # that letters after a digit are short of whole tokens, at most
_BYTES_PER_TOKEN: Final = 3
_SLICE: Final = 1 << 16


def text_tokens(text: str) -> int:
    """An estimate that holds for prose and code in any script, and for hex, base64, digits, signs and emoji at random.

    Three bytes of words are a token. Capitals, digits and signs are one each: Gemini's and Mistral's tokenizers take
    digits one by one, and so letters between digits make no words. A character beyond ASCII is one less than its
    bytes (2 for a Chinese one), an emoji as many. Only letters that make no words, and scripts that no tokenizer was
    trained on, can be more: see `text_tokens_max`.
    """
    raw = text.encode("utf-8", "surrogatepass")
    others = raw.translate(None, _WORDS)
    words = len(raw) - len(others) + _runs(raw, len(others) - len(others.translate(None, _DIGITS))) * _RUN_BYTES
    return -(-words // _BYTES_PER_TOKEN) + len(others.translate(None, _FIRST_BYTES))


def _runs(raw: bytes, digits_in: int) -> int:
    """How often a letter follows a digit. Where digits are few, finding each is three times as fast as count()."""
    if not digits_in:
        return 0
    runs = raw.translate(_RUNS)
    return len(_RUN.findall(runs)) if digits_in * _FEW < len(raw) else runs.count(b"0a")


def text_tokens_max(text: str) -> int:
    """A bound: what is tokenized has at least one byte in every token. Some tokenizers take the text in NFKC, which
    can be longer.
    """
    sent = len(text.encode("utf-8", "surrogatepass"))
    if text.isascii() or is_normalized("NFKC", text):
        return sent
    slices = (text[at : at + _SLICE] for at in range(0, len(text), _SLICE))  # one character may become eighteen
    return max(sent, sum(len(normalize("NFKC", part).encode("utf-8", "surrogatepass")) for part in slices))
