"""How many tokens a text may be, told from its bytes: no tokenizer is run, and none is known for most models."""

from __future__ import annotations

from string import ascii_lowercase
from typing import Final
from unicodedata import is_normalized, normalize

_WORDS: Final = f"{ascii_lowercase} \t\r\n".encode()
_FIRST_BYTES: Final = bytes(range(0xC2, 0xF5))  # of a character beyond ASCII, in UTF-8
_BYTES_PER_TOKEN: Final = 3
_SLICE: Final = 1 << 16


def text_tokens(text: str) -> int:
    """An estimate that holds for prose and code in any script, and for hex, base64, digits, signs and emoji at random.

    Three bytes of words are a token. Capitals, digits and signs are one each: Gemini's and Mistral's tokenizers take
    digits one by one. A character beyond ASCII is one less than its bytes: 2 for a Chinese one, 3 for an emoji. Only
    letters that make no words, and scripts that no tokenizer was trained on, can be more: see `text_tokens_max`.
    """
    raw = text.encode("utf-8", "surrogatepass")
    others = raw.translate(None, _WORDS)
    words = len(raw) - len(others)
    return -(-words // _BYTES_PER_TOKEN) + len(others.translate(None, _FIRST_BYTES))


def text_tokens_max(text: str) -> int:
    """A bound: what is tokenized has at least one byte in every token. Some tokenizers take the text in NFKC, which
    can be longer.
    """
    sent = len(text.encode("utf-8", "surrogatepass"))
    if text.isascii() or is_normalized("NFKC", text):
        return sent
    slices = (text[at : at + _SLICE] for at in range(0, len(text), _SLICE))  # one character may become eighteen
    return max(sent, sum(len(normalize("NFKC", part).encode("utf-8", "surrogatepass")) for part in slices))
