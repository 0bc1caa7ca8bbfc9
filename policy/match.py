"""Which price, budgets and limits a call matches. Compiled once per policy: a thousand rules cost about what ten do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

from policy.model import Budget, Limit, Match, Policy, Price, Scalar, Scope
from policy.units import DIMENSIONS

_HELD_MAX: Final = 4096
_PATH_HELD_MAX: Final = 512  # characters
_MISSING: Final = object()

Keys = tuple[str, ...]
Test = Callable[[Any], bool]


class Candidates(tuple[Price, ...]):
    """Prices that match a call but for its body, in the file's order; only the last may have no body condition."""

    _pick: _Pick
    _field: Keys
    _tests: tuple[tuple[tuple[Keys, Test], ...], ...]
    reads_body: bool
    by_body: bool  # whether any has a body condition

    def __new__(cls, prices: Iterable[Price] = ()) -> Candidates:
        found = super().__new__(cls, prices)
        found.reads_body = any(_reads_body(price) for price in found)
        found.by_body = any(price.match.body for price in found)
        found._tests = tuple(
            tuple((_keys(field), _any_of(values)) for field, values in price.match.body) for price in found
        )
        field = _telling_field(found)
        found._field = _keys(field) if field else ()
        found._pick = _Pick(_literals(dict(price.match.body).get(field or "")) for price in found)
        return found

    def first(self, body: Any) -> Price | None:
        """The first that matches the parsed JSON body as well (None: there is none, or it isn't JSON)."""
        if not self.by_body:
            return self[0] if self else None
        told = _field_of(body, self._field) if self._field else None
        for position in self._pick.of(told if isinstance(told, str) else None):
            for field, test in self._tests[position]:
                if not test(_field_of(body, field)):
                    break
            else:
                return self[position]
        return None


def as_candidates(prices: tuple[Price, ...]) -> Candidates:
    return prices if isinstance(prices, Candidates) else Candidates(prices)


class PriceIndex:
    """The prices of one policy, by what a call's head says of it."""

    def __init__(self, policy: Policy) -> None:
        self._prices = policy.prices
        self._paths = PathIndex(path for price in policy.prices for path in price.match.paths)
        self._methods = frozenset(method for price in policy.prices for method in price.match.methods)
        # Calls that match the same globs have the same candidates. Agents choose the paths: what is held is bounded.
        self._held: dict[tuple[str, str, bool, frozenset[str]], Candidates] = {}
        self._by_head: dict[tuple[str, str, str, bool], Candidates] = {}

    def candidates(self, upstream: str, method: str, path: str, *, websocket: bool = False) -> Candidates:
        """Those that match upstream, method and path (as sent, without query), as `Candidates`."""
        head = (upstream, method if method in self._methods else "", path, websocket)
        found = self._by_head.get(head)
        if found is None:
            found = self._candidates(*head)
            if len(path) <= _PATH_HELD_MAX:
                _hold(self._by_head, head, found)
        return found

    def _candidates(self, upstream: str, method: str, path: str, websocket: bool) -> Candidates:
        key = (upstream, method, websocket, self._paths.matching(path))
        held = self._held.get(key)
        if held is None:
            held = Candidates(self._find(*key))
            _hold(self._held, key, held)
        return held

    def first(self, candidates: tuple[Price, ...], body: Any) -> Price | None:
        """The candidate that prices this body: parsed JSON, None where there is none or it isn't JSON."""
        return as_candidates(candidates).first(body)

    def _find(self, upstream: str, method: str, websocket: bool, globs: frozenset[str]) -> Iterator[Price]:
        for price in self._prices:
            if _head_miss(price.match, upstream, method, websocket):
                continue
            if not price.match.paths or not globs.isdisjoint(price.match.paths):
                yield price
                if not price.match.body:
                    return


class PathIndex:
    """Path globs, compiled once and looked up by their literal beginnings."""

    def __init__(self, globs: Iterable[str]) -> None:
        self._literals: set[str] = set()
        self._by_folder: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
        for glob in dict.fromkeys(globs):
            if "*" in glob:
                folder = glob[: glob.rfind("/", 0, glob.index("*")) + 1]
                self._by_folder.setdefault(folder, []).append((glob, path_glob(glob)))
            else:
                self._literals.add(glob)
        self._depth = max((folder.count("/") for folder in self._by_folder), default=0)

    def matching(self, path: str) -> frozenset[str]:
        """The globs that match the path."""
        found = [path] if path in self._literals else []
        end = 0
        for _ in range(self._depth + 1):
            for glob, pattern in self._by_folder.get(path[:end], ()):
                if pattern.fullmatch(path):
                    found.append(glob)
            end = path.find("/", end) + 1
            if not end:
                break
        return frozenset(found)


def reads_body(candidates: tuple[Price, ...]) -> bool:
    """Whether the request's body must be read to price it: for a condition, a model, its tokens, or a quantity."""
    return as_candidates(candidates).reads_body


def misses(
    policy: Policy, upstream: str, method: str, path: str, body: Any, *, websocket: bool = False
) -> list[tuple[str, str]]:
    """The prices passed over before the one that matches (or all), each with why. No word of the body is quoted."""
    found: list[tuple[str, str]] = []
    for price in policy.prices:
        why = _head_miss(price.match, upstream, method, websocket)
        if not why and price.match.paths and not PathIndex(price.match.paths).matching(path):
            why = f"the path does not match {' or '.join(price.match.paths)}"
        why = why or _body_miss(price.match, body)
        if not why:
            break
        found.append((price.name, why))
    return found


def budgets_for(
    policy: Policy, *, agent_id: str, owner_id: str, role: str, upstream: str, price: str | None
) -> tuple[tuple[Budget, str], ...]:
    """The policy's budgets that count such a call, each with its group (the value of `each`; "" without one)."""
    call = _call(agent_id, owner_id, role, upstream, price)
    return tuple((item, _group(item.scope, call)) for item in policy.budgets if _in_scope(item.scope, call))


def limits_for(
    policy: Policy, *, agent_id: str, owner_id: str, role: str, upstream: str, price: str | None
) -> tuple[tuple[Limit, str], ...]:
    """As `budgets_for`, of limits."""
    call = _call(agent_id, owner_id, role, upstream, price)
    return tuple((item, _group(item.scope, call)) for item in policy.limits if _in_scope(item.scope, call))


def _hold(held: dict[Any, Candidates], key: Any, found: Candidates) -> None:
    if len(held) >= _HELD_MAX:
        held.clear()
    held[key] = found


def _keys(dotted: str) -> Keys:
    return tuple(dotted.split("."))


def _field_of(body: Any, keys: Keys) -> Any:
    """The value at a dotted path into parsed JSON; `_MISSING` where there is none.

    A key that itself has dots is never found: beside the real field it would be a way to dodge a rule.
    """
    for name in keys:
        if not isinstance(body, dict):
            return _MISSING
        body = body.get(name, _MISSING)
    return body


def path_glob(glob: str) -> re.Pattern[str]:
    """`*` stands for anything within a segment, `**` for anything at all. To be used with fullmatch.

    A piece between wildcards is taken where it is first found and never again (an atomic group): no path, however
    made, makes it slow. That misses nothing, for a later place leaves less of the path to the rest.
    """
    first, *rest = (_segments(piece) for piece in re.split(r"\*{2,}", glob))
    if not rest:
        return re.compile(first)
    middle = "".join(f"(?>.*?{piece})" for piece in rest[:-1])
    return re.compile(f"(?s)(?>{first}){middle}.*?{rest[-1]}")


def text_glob(glob: str) -> re.Pattern[str]:
    """`*` stands for any text, `?` for one character; case counts. To be used with fullmatch."""
    return re.compile("(?s)" + _starred(glob, ".", lambda text: re.escape(text).replace(r"\?", ".")))


def _segments(piece: str) -> str:
    return "/".join(_starred(segment, "[^/]", re.escape) for segment in piece.split("/"))


def _starred(glob: str, any_char: str, literal: Callable[[str], str]) -> str:
    first, *rest = (literal(part) for part in glob.split("*"))
    if not rest:
        return first
    middle = "".join(f"(?>{any_char}*?{part})" for part in rest[:-1])
    return f"{first}{middle}{any_char}*?{rest[-1]}"


class _Pick:
    """Positions by the text that alone they match (None: they may match others too), looked up in order."""

    def __init__(self, literals: Iterable[tuple[str, ...] | None]) -> None:
        self._by_text: dict[str, list[int]] = {}
        self._rest: list[int] = []
        for position, texts in enumerate(literals):
            if texts is None:
                self._rest.append(position)
            else:
                for text in dict.fromkeys(texts):
                    self._by_text.setdefault(text, []).append(position)

    def of(self, text: str | None) -> list[int]:
        own = self._by_text.get(text) if text is not None else None
        return sorted(own + self._rest) if own else self._rest


def _literals(values: tuple[Scalar, ...] | None) -> tuple[str, ...] | None:
    """The values, if all are text without wildcards and there are any."""
    texts = tuple(value for value in values or () if isinstance(value, str) and not ({"*", "?"} & set(value)))
    return texts if values and len(texts) == len(values) else None


def _telling_field(prices: tuple[Price, ...]) -> str | None:
    """The body field whose text tells most of the prices apart."""
    distinct: dict[str, set[str]] = {}
    for price in prices:
        for field, values in price.match.body:
            distinct.setdefault(field, set()).update(_literals(values) or ())
    return max(distinct, key=lambda field: len(distinct[field]), default=None)


def _reads_body(price: Price) -> bool:
    return (
        bool(price.match.body)
        or price.rates == "catalog"
        or any(source.kind == "request" for source in price.usage)
        or any(rate.usage in DIMENSIONS for dated in price.rates for rate in dated.rates)
    )


def _head_miss(match: Match, upstream: str, method: str, websocket: bool) -> str:
    """Why it doesn't match upstream, method or protocol; "" if it does."""
    if match.upstreams and upstream not in match.upstreams:
        return f"the upstream is not {' or '.join(match.upstreams)}"
    if match.methods and method not in match.methods:
        return f"the method is not {' or '.join(match.methods)}"
    if match.websocket != websocket:
        return "only an upgrade to websocket matches" if match.websocket else "no upgrade matches"
    return ""


def _body_miss(match: Match, body: Any) -> str:
    for field, values in match.body:
        found = _field_of(body, _keys(field))
        if found is _MISSING:
            return f"the body has no {field}"
        if not _any_of(values)(found):
            return f"{field} in the body is not {' or '.join(map(scalar_text, values))}"
    return ""


def scalar_text(value: Scalar) -> str:
    """As the policy writes it."""
    return {True: "true", False: "false", None: "null"}[value] if isinstance(value, bool | None) else str(value)


def _any_of(values: tuple[Scalar, ...]) -> Test:
    """By type and value: "1" is not 1, and true is not 1; 1 and 1.0 are one number."""
    literals = frozenset(value for value in values if isinstance(value, str) and not ({"*", "?"} & set(value)))
    patterns = tuple(text_glob(value) for value in values if isinstance(value, str) and value not in literals)
    numbers = frozenset(value for value in values if isinstance(value, int | Decimal) and not isinstance(value, bool))
    constants = tuple(value for value in values if value is None or isinstance(value, bool))

    only = patterns[0].fullmatch if len(patterns) == 1 else None

    def test(found: Any) -> bool:
        if isinstance(found, str):
            if only is not None:  # most often: a family of models
                return found in literals or only(found) is not None
            return found in literals or any(pattern.fullmatch(found) for pattern in patterns)
        if isinstance(found, float):
            found = Decimal(repr(found))
        if isinstance(found, int | Decimal) and not isinstance(found, bool):
            return found in numbers
        return any(found is constant for constant in constants)

    return test


def _call(agent_id: str, owner_id: str, role: str, upstream: str, price: str | None) -> Mapping[str, str]:
    return {"agent": agent_id, "owner_id": owner_id, "role": role, "upstream": upstream, "price": price or ""}


def _in_scope(scope: Scope, call: Mapping[str, str]) -> bool:
    return (
        (not scope.agents or call["agent"] in scope.agents)
        and (not scope.owner_ids or call["owner_id"] in scope.owner_ids)
        and (not scope.roles or call["role"] in scope.roles)
        and (not scope.upstreams or call["upstream"] in scope.upstreams)
        and (not scope.prices or call["price"] in scope.prices)
    )


def _group(scope: Scope, call: Mapping[str, str]) -> str:
    return call[scope.each] if scope.each else ""
