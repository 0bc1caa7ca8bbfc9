"""A call as the prices see it: its head, and the body that they read."""

from __future__ import annotations

import re
from typing import Any

from msgspec import Struct

from policy.match import as_candidates
from policy.model import Price, Upstream
from proxy.denials import Refused
from proxy.forms import FormError, form_of
from proxy.jsontext import JsonError, loads

# Behind byte order marks, and in UTF-16 or UTF-32 too, as some readers take it.
_LOOKS_JSON = re.compile(rb"[\s\0\xef\xbb\xbf\xfe\xff]*+[{\[]")


class ProxyRequest(Struct, frozen=True):
    """A call as the prices see it. ``path`` is as sent, after the upstream's name; ``body`` None: none reads it."""

    upstream: Upstream
    method: str
    path: str
    body: bytes | None = None
    content_type: str = ""


class Content(Struct, frozen=True):
    """What a body holds: the JSON, or the texts of a form and the size of its files; None: neither."""

    body: Any = None
    file_bytes: int = 0
    is_json: bool = False


def content_of(request: ProxyRequest, candidates: tuple[Price, ...]) -> Content:
    """Raises Refused (400) for a body that the prices have to read and can't, or that can't be told apart by them."""
    if not request.body:
        return Content()
    rules = as_candidates(candidates)
    try:
        if "form" in request.content_type.lower() and (form := form_of(request.content_type, request.body)):
            return Content(form.fields, form.file_bytes)
        found = Content(loads(request.body), is_json=True)
    except FormError as error:
        raise Refused(400, "invalid_form", f"Agent Ledger: the form can't be priced: {error}.") from error
    except JsonError as error:
        # A body we can't read might still be read by a lenient upstream, and so dodge a rule or a ceiling.
        looks = rules.reads_body and _LOOKS_JSON.match(request.body)
        if "json" in request.content_type.lower() or rules.by_body or looks:
            message = f"Agent Ledger: the request body must be plain JSON to be priced ({error})."
            raise Refused(400, "invalid_json", message) from error
        return Content()
    if isinstance(found.body, list) and rules.by_body:
        # No field of an array can be matched: as a batch, JSON-RPC calls would pass for what matches anything.
        message = "Agent Ledger: a batch can't be priced; send its requests one by one."
        raise Refused(400, "batch_refused", message, request=found.body)
    return found
