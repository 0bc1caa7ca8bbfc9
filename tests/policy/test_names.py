from __future__ import annotations

import pytest

from policy.names import NAME_MAX, line_problem, text_problem


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "must have 1 to 128 characters"),
        ("x" * (NAME_MAX + 1), "must have 1 to 128 characters"),
        ("a\0b", "must not hold NUL"),
        ("\ud800", "must be well-formed Unicode"),
        ("x" * NAME_MAX, None),
        ("Grüße, 日本 👩\u200d🔬", None),
    ],
)
def test_what_a_name_may_be(text, problem):
    assert text_problem(text) == problem


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "must have 1 to 128 characters"),
        ("a\nb", "must hold no control or invisible characters"),
        ("a\u202eb", "must hold no control or invisible characters"),
        ("openai:gpt-4o", None),
    ],
)
def test_what_stands_in_an_id_is_one_line(text, problem):
    assert line_problem(text) == problem
