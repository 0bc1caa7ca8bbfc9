"""What is odd about a policy that loads: warnings, each at its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from policy.match import PathIndex
from policy.model import Match, Policy, Price, Rate, Scope
from policy.problems import Code, Report, quote
from policy.source import ListNode, Node, ScalarNode, locate
from policy.units import DIMENSIONS, RATE_KEYS, REQUEST

Path = tuple[str | int, ...]

_ANYWHERE = "/**"
_DEMO = "builtin:demo"

# What the grammar has and the sidecar doesn't do yet, and where a policy says it. To build one is to delete its entry.
_NOT_YET: tuple[tuple[str, Callable[[Policy], Iterator[Path]]], ...] = (
    (
        "websockets are not built yet: upgrades are refused",
        lambda policy: (("prices", i, "match", "protocol") for i, p in enumerate(policy.prices) if p.match.websocket),
    ),
)


def warnings_for(policy: Policy, root: Node, report: Report) -> None:
    """Note the warnings of a policy that has no error; ``root`` is what it was read from."""
    for path, code, message in _warnings(policy, root, report):
        report.note(locate(root, *path).start, code, message, "warning")


def _warnings(policy: Policy, root: Node, report: Report) -> Iterator[tuple[Path, Code, str]]:
    for message, places in _NOT_YET:
        yield from ((path, "not-yet", message) for path in places(policy))
    yield from _unreachable(policy, root, report)
    yield from _unmeasured(policy, report)
    yield from _free_input(policy)
    yield from _upstreams(policy, root)
    yield from _scopes(policy)
    for i, agent in enumerate(policy.agents.values()):
        if agent.per_action_limit is not None and agent.per_action_limit > agent.monthly_budget:
            message = "a call up to this limit never fits: it is above the agent's monthly_budget"
            yield ("agents", i, "per_action_limit"), "limit-above-budget", message
    thresholds = locate(root, "alerts", "thresholds")
    for i, item in enumerate(thresholds.items if isinstance(thresholds, ListNode) else ()):
        if isinstance(item, ScalarNode) and int(item.value[:-1]) > 100:
            message = "above 100% only an overrun or a shadow budget gets"
            yield ("alerts", "thresholds", i), "percent-above-100", message


def _unreachable(policy: Policy, root: Node, report: Report) -> Iterator[tuple[Path, Code, str]]:
    """Prices that an earlier one surely leaves no call: one with no body condition, or with the very same."""
    everywhere = frozenset(policy.upstreams)
    index = PathIndex(path for price in policy.prices for path in price.match.paths)
    earlier: dict[tuple[str, str], list[int]] = {}  # prices by body conditions and path
    for i, price in enumerate(policy.prices):
        covering = [_covering(index, path) for path in _paths(price.match)]
        bodies = {repr(()), repr(price.match.body)}  # as written: True equals 1 but is not the same
        rivals = {j for body in bodies for path in covering[0] for j in earlier.get((body, path), ())}
        before = min(
            (j for j in rivals if _covers(policy.prices[j].match, price.match, covering, everywhere)), default=None
        )
        if before is None:
            for path in _paths(price.match):
                earlier.setdefault((repr(price.match.body), path), []).append(i)
            continue
        place = report.line_col(locate(root, "prices", before).start)
        message = f"never reached: the price {_shown(root, before)}, at {place}, comes first for all it matches"
        yield ("prices", i, "name"), "unreachable", message


def _paths(match: Match) -> tuple[str, ...]:
    """The globs; `/**` for any path."""
    return match.paths if match.paths and "**" not in match.paths else (_ANYWHERE,)


def _covering(index: PathIndex, path: str) -> frozenset[str]:
    """The globs that surely match all that ``path`` does. One that matches its text does, stars being only taken by
    stars, but for a `**` in it: that is only sure where nothing else follows the glob's own."""
    found = index.matching(path)
    if "**" in path:
        found = frozenset(glob for glob in found if glob == path or (glob.endswith("**") and "*" not in glob[:-2]))
    return found | {_ANYWHERE, path}


def _covers(earlier: Match, later: Match, covering: list[frozenset[str]], everywhere: frozenset[str]) -> bool:
    paths = _paths(earlier)
    return (
        set(earlier.upstreams or everywhere) >= set(later.upstreams or everywhere)
        and (not earlier.methods or (bool(later.methods) and set(earlier.methods) >= set(later.methods)))
        and earlier.websocket == later.websocket
        and all(not globs.isdisjoint(paths) for globs in covering)
    )


def _unmeasured(policy: Policy, report: Report) -> Iterator[tuple[Path, Code, str]]:
    for i, price in enumerate(policy.prices):
        read = {source.unit for source in price.usage}
        for rate in _rates(price):
            if rate.usage != REQUEST and rate.usage not in DIMENSIONS and rate.usage not in read:
                hint = report.hint(rate.key, RATE_KEYS, listed=False)
                message = (
                    f"no usage: says where {quote(rate.usage)} is read, so each call is charged its estimate{hint}"
                )
                yield ("prices", i, "rates"), "unmeasured", message
                read.add(rate.usage)


def _free_input(policy: Policy) -> Iterator[tuple[Path, Code, str]]:
    for i, price in enumerate(policy.prices):
        kinds = {rate.usage for rate in _rates(price)}
        if any(kind.endswith("_tokens") for kind in kinds & DIMENSIONS.keys()) and "input_tokens" not in kinds:
            yield ("prices", i, "rates"), "free-input", "no input_mtok: plain input tokens cost nothing at this price"


def _upstreams(policy: Policy, root: Node) -> Iterator[tuple[Path, Code, str]]:
    for name, upstream in policy.upstreams.items():
        matching = [i for i, p in enumerate(policy.prices) if not p.match.upstreams or name in p.match.upstreams]
        if not matching and policy.unpriced == "deny":
            yield ("upstreams", name), "no-price", "no price matches this upstream, so all its calls are denied"
        if upstream.meter is None and upstream.url != _DEMO:
            by_tokens = next((i for i in matching if _by_tokens(policy.prices[i])), None)
            if by_tokens is not None:
                charged = f"the price {_shown(root, by_tokens)} charges by tokens"
                message = f"{charged}, and only a call's path may tell the format of its usage; say meter:"
                yield ("upstreams", name, "url"), "no-meter", message


def _scopes(policy: Policy) -> Iterator[tuple[Path, Code, str]]:
    scopes: list[tuple[Path, Scope]] = [(("budgets", i, "match"), b.scope) for i, b in enumerate(policy.budgets)]
    scopes += [(("limits", i, "match"), limit.scope) for i, limit in enumerate(policy.limits)]
    for path, scope in scopes:
        if (scope.agents or scope.owner_ids or scope.roles) and not any(
            (not scope.agents or agent.id in scope.agents)
            and (not scope.owner_ids or agent.owner_id in scope.owner_ids)
            and (not scope.roles or agent.role in scope.roles)
            for agent in policy.agents.values()
        ):
            yield path, "no-such-agent", "no agent of this file matches"


def _rates(price: Price) -> tuple[Rate, ...]:
    return () if price.rates == "catalog" else tuple(rate for dated in price.rates for rate in dated.rates)


def _by_tokens(price: Price) -> bool:
    read = {source.unit for source in price.usage}
    return price.rates == "catalog" or any(rate.usage in DIMENSIONS.keys() - read for rate in _rates(price))


def _shown(root: Node, price: int) -> str:
    """A price's name as the file writes it."""
    name = locate(root, "prices", price, "name")
    return name.quoted if isinstance(name, ScalarNode) else ""
