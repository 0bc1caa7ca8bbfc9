"""`upstreams:` — the hosts that calls are forwarded to."""

from __future__ import annotations

import re

from genai_prices.data import providers

from policy.catalog import Catalog
from policy.model import Upstream
from policy.parse.reader import Reader
from policy.source import Node, ScalarNode

METERS = ("openai", "anthropic", "gemini", "bedrock", "mistral", "cohere", "deepseek", "groq", "openrouter", "mcp")
DEMO = "builtin:demo"

# The first segments of paths that are the sidecar's own.
_RESERVED = frozenset({"api", "ui", "healthz", "readyz", "metrics", "openapi.json"})
_URL = re.compile(r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?(/[!-~]*)?", re.ASCII)
_HOST_METERS = (
    (re.compile(r"api\.openai\.com|.+\.(openai|services\.ai|cognitiveservices)\.azure\.com"), "openai"),
    (re.compile(r"api\.anthropic\.com"), "anthropic"),
    (re.compile(r"generativelanguage\.googleapis\.com|(.+-)?aiplatform\.googleapis\.com"), "gemini"),
    (re.compile(r"bedrock-runtime\..+\.amazonaws\.com"), "bedrock"),
    (re.compile(r"api\.mistral\.ai"), "mistral"),
    (re.compile(r"api\.cohere\.(com|ai)"), "cohere"),
    (re.compile(r"api\.deepseek\.com"), "deepseek"),
    (re.compile(r"api\.groq\.com"), "groq"),
    (re.compile(r"openrouter\.ai"), "openrouter"),
)
_DURATION = re.compile(r"(\d{1,6})(s|m|h)", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_TIMEOUT_S = 600.0
_TIMEOUT_MAX_S = 24 * 3600
_IN_FLIGHT_MAX = 1024
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}", re.ASCII)
_HEADER_VALUE = re.compile(r"([!-~]([ -~]*[!-~])?)?", re.ASCII)
# They frame or route the request, or are the sidecar's own.
_UNSETTABLE = re.compile(
    r"host|content-length|transfer-encoding|connection|keep-alive|te|trailer|upgrade|expect|proxy-.*|x-agent-id|x-ledger-.*"
)
_KEYS = (
    "url",
    "meter",
    "catalog",
    "set_headers",
    "timeout",
    "ask_usage",
    "charge_errors",
    "max_in_flight",
    "circuit_breaker",
)


def read_upstreams(reader: Reader, node: Node | None, names: dict[str, ScalarNode]) -> dict[str, Upstream]:
    """The upstreams by name; their names are added to ``names``."""
    if node is None:
        return {}
    catalog = Catalog()
    found: dict[str, Upstream] = {}
    for key, value in reader.entries(node, "upstreams by name"):
        name = reader.unique(names, key, "upstream")
        if name.lower() in _RESERVED:
            reader.note(
                key, "reserved-name", f"an upstream can't be named {key.quoted}: that path is the sidecar's own"
            )
        found[name] = _upstream(reader, name, value, catalog)
    return found


def _upstream(reader: Reader, name: str, node: Node, catalog: Catalog) -> Upstream:
    fields = reader.fields(node, "an upstream", _KEYS, required=("url",))
    url = read_url(reader, fields.get("url"))
    provider = _catalog(reader, fields.get("catalog"), catalog)
    return Upstream(
        name=name,
        url=url,
        meter=reader.choice(fields.get("meter"), METERS, "") or told_meter(url),
        catalog=provider or catalog.provider_for_url(url),
        set_headers=_headers(reader, fields.get("set_headers")),
        timeout_s=_duration(reader, fields.get("timeout")),
        ask_usage=reader.flag(fields.get("ask_usage"), True),
        charge_errors=reader.flag(fields.get("charge_errors")),
        max_in_flight=reader.count(fields["max_in_flight"]) if "max_in_flight" in fields else _IN_FLIGHT_MAX,
        circuit_breaker=reader.flag(fields.get("circuit_breaker"), True),
    )


def read_url(reader: Reader, node: Node | None, *, secret: bool = False) -> str:
    """An upstream's base URL, without its last slash. A ``secret`` one, a webhook's, may have a query and is hidden."""
    found = reader.secret(node, "a URL") if secret else reader.scalar(node, "a URL", ("text",))
    if found is None or (found.value == DEMO and not secret):
        return found.value if found else ""
    url = _URL.fullmatch(found.value)
    why = "" if url else "expected http(s)://host[:port][/path]"
    if not secret and any(mark in found.value for mark in "@?#"):
        found.shown = False  # a password or a key may stand there
        why = "an upstream's URL has no userinfo, query or fragment; credentials go into set_headers"
    elif url and url[2] and not 1 <= int(url[2][1:]) <= 65535:
        why = "the port is from 1 to 65535"
    elif url and url[3] and {".", ".."} & set(url[3].split("/")):
        why = "a URL's path has no '.' or '..'"
    if why:
        reader.note(found, "url", why)
    return found.value if secret else found.value.rstrip("/")


def told_meter(url: str) -> str | None:
    """The meter of the provider whose API that url is, if it is known."""
    found = _URL.fullmatch(url)
    host = found[1].lower() if found else ""
    return next((meter for pattern, meter in _HOST_METERS if pattern.fullmatch(host)), None)


def _catalog(reader: Reader, node: Node | None, catalog: Catalog) -> str | None:
    found = reader.scalar(node, "the name of a genai-prices provider", ("text",))
    if found is None:
        return None
    if not catalog.knows(found.value):
        hint = reader.report.hint(found.raw, (provider.id for provider in providers), listed=False)
        reader.note(found, "unknown-value", f"genai-prices has no provider {found.quoted}{hint}")
    return found.value


def _headers(reader: Reader, node: Node | None) -> tuple[tuple[str, str], ...]:
    """Names in lower case, and values: credentials, which no problem shows."""
    if node is None:
        return ()
    found: dict[str, str] = {}
    for key, value in reader.entries(node, "headers by name"):
        name = key.value.lower()
        if not HEADER_NAME.fullmatch(name):
            key.shown = False  # perhaps a whole header, with its value
            reader.note(key, "header", "a header's name has letters, digits and '-'")
        elif _UNSETTABLE.fullmatch(name):
            reader.note(key, "header", f"the header {key.quoted} frames the request or is the sidecar's own")
        elif name in found:
            reader.note(key, "header", f"the header {key.quoted} stands twice; case makes no difference")
        text = reader.secret(value, "a header's value")
        if text is not None and not _HEADER_VALUE.fullmatch(text.value):
            reader.note(text, "header", "a header's value has printable ASCII only, and no space around it")
        found[name] = text.value if text else ""
    return tuple(found.items())


def _duration(reader: Reader, node: Node | None) -> float:
    found = reader.scalar(node, "a duration, such as 120s or 2m", ("text", "number"))
    if found is None:
        return _TIMEOUT_S
    parts = _DURATION.fullmatch(found.value)
    seconds = int(parts[1]) * _SECONDS[parts[2]] if parts else 0
    if not 1 <= seconds <= _TIMEOUT_MAX_S:
        reader.note(found, "duration", f"{found.quoted} is no duration such as 120s, 2m or 1h, of at most 24h")
    return float(seconds)
