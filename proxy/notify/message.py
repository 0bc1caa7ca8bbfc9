"""What is sent to a webhook: its body and headers."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from policy.model import Webhook
from proxy.denials import iso
from proxy.headers import Headers
from proxy.jsontext import dumps
from proxy.ledger.port import Alert

DELIVERY = b"x-agent-ledger-delivery"
SIGNATURE = b"x-agent-ledger-signature"
_SLACK_TEXT_MAX = 3000
_SLACK = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def alert_json(alert: Alert) -> dict[str, Any]:
    """The API's Alert object."""
    return {
        "id": alert.id,
        "agentId": alert.agent_id,
        "type": alert.type,
        "message": alert.message,
        "createdAt": iso(alert.created_at),
        "acknowledgedAt": None if alert.acknowledged_at is None else iso(alert.acknowledged_at),
    }


def body_of(webhook: Webhook, alert: Alert, delivery_id: str) -> bytes:
    if webhook.format == "slack":
        return dumps({"text": _slack_text(alert)}).encode()
    return dumps(alert_json(alert) | {"deliveryId": delivery_id}).encode()


def headers_of(webhook: Webhook, body: bytes, delivery_id: str, now_s: int) -> Headers:
    """Without the Host. With the webhook's secret it is signed as Stripe signs: time and body, by HMAC-SHA256."""
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"user-agent", b"agent-ledger"),
        (DELIVERY, delivery_id.encode()),
    ]
    if webhook.secret is not None:
        signed = hmac.new(webhook.secret.encode(), b"%d." % now_s + body, hashlib.sha256).hexdigest()
        headers.append((SIGNATURE, f"t={now_s},v1={signed}".encode()))
    return headers


def _slack_text(alert: Alert) -> str:
    """`*budget_exceeded* · agent painter: budget day exceeded: …`; a name in it mentions nobody."""
    who = "" if alert.agent_id is None else f"agent {alert.agent_id}: "
    text = "".join(char if char.isprintable() else " " for char in f"{who}{alert.message}"[:_SLACK_TEXT_MAX])
    return f"*{alert.type}* · {text.translate(_SLACK)}"
