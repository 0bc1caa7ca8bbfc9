"""Alerts: to acknowledge them."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route

from proxy.dashboard.frame import Pages
from proxy.state import Sidecar


def routes(pages: Pages) -> list[Route]:
    return [Route("/alerts/{alert_id}/acknowledge", pages.changes("alerts", _acknowledge), methods=["POST"])]


async def _acknowledge(sidecar: Sidecar, request: Request, form: Mapping[str, str]) -> None:
    if await sidecar.ledger.acknowledge(request.path_params["alert_id"]) is None:
        raise HTTPException(404, "There is no such alert.")
