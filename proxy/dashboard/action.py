"""One action: what became of it, the arithmetic of its charge and of its estimate, and the decision upon it."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route

from policy.decide import STATUS
from policy.money import format_usd
from policy.pricing import load_rates
from proxy.dashboard.arithmetic import arithmetic
from proxy.dashboard.frame import Pages, Shown
from proxy.dashboard.rendering import lasted
from proxy.explanation import FLAGS, REASONS, basis, ending, reserved_rates, sum_of
from proxy.ledger.port import Action
from proxy.state import Sidecar

METADATA_SHOWN = 4096  # characters


@dataclass(frozen=True, slots=True)
class Moment:
    """A step of the call; ``at`` unix ms, None where it is not on record. Amounts in nano-dollars."""

    title: str
    at: int | None
    text: str = ""
    amount: int | None = None
    level: str = ""


def routes(pages: Pages) -> list[Route]:
    return [Route("/actions/{action_id}", pages.shows("actions", view), methods=["GET"])]


async def view(sidecar: Sidecar, request: Request, at_ms: int) -> Shown:
    action = await sidecar.ledger.action(request.path_params["action_id"])
    if action is None:
        raise HTTPException(404, "No action has this id.")
    charged = action.usage or basis(action) == "usage"
    values = {
        "action": action,
        "agent": sidecar.ledger.agent(action.agent_id),
        "happened": ending(action),
        "basis": basis(action),
        "moments": _moments(action, at_ms),
        "charge": arithmetic(sum_of(load_rates(action.rates), action.usage)) if charged else None,
        "estimate": arithmetic(sum_of(reserved_rates(action), action.estimated)) if action.estimated else None,
        "told": next((status for reason, status in STATUS.items() if reason == action.reason), None),
        "reasons": REASONS,
        "flags": FLAGS,
        "metadata": (action.metadata or "")[:METADATA_SHOWN],
        "metadata_cut": max(0, len(action.metadata or "") - METADATA_SHOWN),
        "over": max(0, action.cost - action.reserved) if action.reserved is not None else 0,
        "other_policy": action.policy_hash not in ("", sidecar.policy_file.rules.policy.hash),
    }
    return Shown("action.html", values)


def _moments(action: Action, at_ms: int) -> list[Moment]:
    """From its authorization to its end."""
    if action.outcome == "denied":
        return [Moment("Denied", action.created_at, "nothing was sent upstream, and nothing reserved", level="bad")]
    if action.ending == "adjusted":
        return [Moment("Adjusted by an operator", action.created_at, "", action.cost)]
    if action.reserved is None:
        return [Moment("Reported by its agent", action.created_at, "authorized and settled at once", action.cost)]
    first = Moment("Authorized", action.created_at, "reserved against every budget that counts it", action.reserved)
    if action.outcome == "pending":
        return [first, Moment("In flight", None, f"for {lasted(max(0, at_ms - action.created_at))}", level="held")]
    return [first, *_answered(action), _ended(action, action.reserved)]


def _answered(action: Action) -> list[Moment]:
    took = "" if action.duration_ms is None else f"after {lasted(action.duration_ms)}"
    if action.upstream_status is not None:
        level = "bad" if action.upstream_status >= 400 else ""
        return [Moment(f"Answered {action.upstream_status}", None, took, level=level)]
    return [Moment("No answer", None, took, level="bad")] if action.ending != "expired" else []


def _ended(action: Action, reserved: int) -> Moment:
    if action.ending == "voided":
        return Moment("Voided", None, f"all {format_usd(reserved)} returned", 0)
    title = "Expired" if action.ending == "expired" else "Settled"
    if action.cost > reserved:
        over = format_usd(action.cost - reserved)
        return Moment(title, None, f"{over} above its reservation: an overrun, recorded in full", action.cost, "bad")
    left = reserved - action.cost
    returned = f"{format_usd(left)} of the reservation returned" if left else "the whole of its reservation"
    return Moment(title, None, returned, action.cost, "warn" if action.unconfirmed else "")
