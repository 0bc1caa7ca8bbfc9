"""Every page, as whoever comes to it finds it."""

from __future__ import annotations

import pytest

from proxy.ledger.port import Action, ActionFilter
from tests.browser.conftest import Window
from tests.browser.month import BUDGET_PAUSED, MATCHER, UNUSED
from tests.browser.served import Served

pytestmark = pytest.mark.asyncio(loop_scope="session")

PAGES = [
    "/",
    "/?q=nobody",
    "/ui/agents/researcher",
    f"/ui/agents/{MATCHER}",
    f"/ui/agents/{BUDGET_PAUSED}",
    f"/ui/agents/{UNUSED}",
    "/ui/actions",
    "/ui/actions?agent=nobody",
    "/ui/alerts",
    "/ui/alerts?type=overrun",
    "/ui/policy",
]


@pytest.mark.parametrize("path", PAGES)
async def test_it_is_sound_on_any_screen(window: Window, path: str):
    async with window(signed_in=True) as visitor:
        await visitor.audit_everywhere(path)


KINDS = {
    "success": lambda action: action.outcome == "success" and action.ending == "settled",
    "denied": lambda action: action.outcome == "denied",
    "voided": lambda action: action.ending == "voided",
    "unconfirmed": lambda action: action.unconfirmed,
    "overrun": lambda action: action.reserved is not None and action.cost > action.reserved,
    "adjusted": lambda action: action.ending == "adjusted",
}


async def test_an_action_of_each_kind_is_sound_on_any_screen(window: Window, served: Served):
    actions: list[Action] = [action async for action in served.ledger.export(ActionFilter())]
    found = {kind: next(filter(is_one, actions)).id for kind, is_one in KINDS.items()}
    found["pending"] = served.ledger.reservations()[0].action_id
    for action_id in found.values():
        async with window(signed_in=True) as visitor:
            await visitor.audit_everywhere(f"/ui/actions/{action_id}")
