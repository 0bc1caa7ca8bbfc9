"""Where a quantity stands in a JSON body: a dotted path (`result.items.0.seconds`), or a JSON pointer (RFC 6901)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def steps(path: str) -> list[str]:
    """The keys and list indexes from the outside in. A path that begins with a slash is a JSON pointer."""
    if path.startswith("/"):
        return [step.replace("~1", "/").replace("~0", "~") for step in path[1:].split("/")]
    return path.split(".")


def dig(document: Any, path: str) -> Any:
    """The value there, or None."""
    for step in steps(path):
        if isinstance(document, Mapping):
            document = document.get(step)
        elif isinstance(document, list) and step.isdecimal() and step.isascii() and int(step[:9]) < len(document):
            document = document[int(step[:9])]
        else:
            return None
    return document
