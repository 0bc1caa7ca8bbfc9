from __future__ import annotations

import random
import string
from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.text import text_tokens, text_tokens_max

PROSE = "The weather is good today, so we went for a walk in the park with our friends. "
CODE = "def area(width: int, height: int) -> int:\n    return width * height  # in square meters\n"


def at_random(alphabet: str, count: int = 2000) -> str:
    return "".join(random.Random(7).choices(alphabet, k=count))


def block(first: int, last: int) -> str:
    return "".join(map(chr, range(first, last + 1)))


# Tokens of a byte that the tokenizers of GPT-4o, DeepSeek V3 and Gemma 3 (Gemini's) make at most, as measured.
MEASURED = {
    "digits": (at_random(string.digits), 1.0),
    "hex": (at_random("0123456789abcdef"), 0.88),  # Mistral, digit by digit; Gemma 0.9
    "base64": (at_random(string.ascii_letters + string.digits + "+/"), 0.70),
    "capitals": (at_random(string.ascii_uppercase), 0.58),
    "signs": (at_random(string.punctuation), 0.70),
    "emoji": (at_random(block(0x1F300, 0x1F6FF)), 1.0),  # Tekken, by the byte
    "marks": ("e\u0301o\u0308 " * 500, 0.71),  # decomposed letters: GPT-4, Tekken
    "Chinese": ("我们今天去公园散步天气很好" * 20, 0.26),
    "Chinese at random": (at_random(block(0x4E00, 0x9FFF)), 0.65),
    "Korean": ("오늘은 날씨가 좋아서 공원에 산책하러 갔습니다" * 20, 0.30),
    "Russian": ("Сегодня хорошая погода и мы пошли гулять в парк " * 20, 0.18),
    "Hindi": ("आज मौसम अच्छा है और हम पार्क में घूमने गए " * 20, 0.22),
    "English": (PROSE * 20, 0.25),
    "code": (CODE * 20, 0.30),
}


@pytest.mark.parametrize("name", MEASURED)
def test_no_text_of_these_kinds_is_more_tokens(name):
    text, tokens_per_byte = MEASURED[name]
    assert text_tokens(text) >= tokens_per_byte * len(text.encode())


@pytest.mark.parametrize(("text", "times"), [(PROSE, 1.6), (CODE, 2)])
def test_nor_is_prose_or_code_taken_for_much_more(text, times):
    assert text_tokens(text) <= times * 0.25 * len(text)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("a", 1),
        ("abc", 1),
        ("abcd", 2),
        ("ab \n\t\r", 2),
        ("A1!", 3),
        ("a1b1c", 2 + 3),
        ("é", 1),
        ("你好", 4),
        ("e\u0301", 1 + 2),
        ("է", 2),
        ("😀", 4),
        ("\x00\x7f", 2),
        ("\ud800", 2),
    ],
)
def test_words_at_three_bytes_signs_at_one_and_known_characters_at_one_less_than_their_bytes(text, tokens):
    assert text_tokens(text) == tokens


@given(st.text(st.characters(exclude_categories=[])))
def test_the_bound_holds_for_any_tokenizer_of_bytes_in_any_form(text):
    bound = text_tokens_max(text)
    assert text_tokens(text) <= bound
    assert len(normalize("NFKC", text).encode("utf-8", "surrogatepass")) <= bound
    assert len(text.encode("utf-8", "surrogatepass")) <= bound


def test_one_character_may_be_eighteen():
    assert text_tokens_max("\ufdfa") == 33
    assert text_tokens_max("\ufdfa" * 100_000) == 3_300_000
    assert text_tokens_max("a" * 100_000) == 100_000
