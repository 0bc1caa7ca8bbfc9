"""What text people give to things may be."""

from __future__ import annotations

NAME_MAX = 128


def text_problem(text: str, most: int = NAME_MAX) -> str | None:
    """Why it can't be kept: too long or empty, NUL, a lone surrogate; None where it can."""
    if not 1 <= len(text) <= most:
        return f"must have 1 to {most} characters"
    if "\0" in text:
        return "must not hold NUL"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "must be well-formed Unicode"
    return None


def line_problem(text: str) -> str | None:
    """As `text_problem`, of text that may stand in an id or a target: no control characters at all."""
    problem = text_problem(text)
    if problem is None and not text.isprintable():
        return "must hold no control or invisible characters"
    return problem
