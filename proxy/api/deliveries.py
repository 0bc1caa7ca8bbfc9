"""The delivery of alerts to webhooks, as an operator looks after it."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from proxy.api.resource import answer
from proxy.api.wire import delivery_json
from proxy.denials import Refused
from proxy.state import Sidecar


async def listed(sidecar: Sidecar, request: Request) -> Response:
    """Those not delivered: waiting and given up, oldest first."""
    return answer([delivery_json(delivery) for delivery in sidecar.ledger.deliveries()])


async def retry(sidecar: Sidecar, request: Request) -> Response:
    delivery = await sidecar.ledger.redeliver(request.path_params["id"])
    if delivery is None:
        raise Refused(404, "not_found", "No delivery of this id was given up.")
    return answer(delivery_json(delivery))


async def test(sidecar: Sidecar, request: Request) -> Response:
    """An alert of type `test` to each webhook of the policy, now; it is recorded nowhere."""
    trials = await sidecar.notifier.test()
    return answer([{"webhook": each.webhook, "delivered": each.error is None, "error": each.error} for each in trials])
