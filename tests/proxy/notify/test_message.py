from __future__ import annotations

import hashlib
import hmac
import json

from policy.model import Webhook
from proxy.ledger.port import Alert
from proxy.notify.message import body_of, headers_of

AT = 1_790_000_000_123
ALERT = Alert("alr_1", "a&<!here>", "overrun", "a&<!here>: x:m cost $2.00\n> \u202e$1.00", AT)


def test_json_is_the_apis_alert_and_the_delivery() -> None:
    body = json.loads(body_of(Webhook("http://h"), ALERT, "dlv_1"))
    assert body == {
        "id": "alr_1",
        "agentId": "a&<!here>",
        "type": "overrun",
        "message": ALERT.message,
        "createdAt": "2026-09-21T14:13:20.123Z",
        "acknowledgedAt": None,
        "deliveryId": "dlv_1",
    }


def test_slacks_text_holds_no_mention_and_no_control() -> None:
    body = json.loads(body_of(Webhook("http://h", "slack"), ALERT, "dlv_1"))
    who = "a&amp;&lt;!here&gt;"
    assert body == {"text": f"*overrun* · agent {who}: {who}: x:m cost $2.00 &gt;  $1.00"}
    of_none = json.loads(body_of(Webhook("http://h", "slack"), Alert("a", None, "failed_open", "so", AT), "dlv_1"))
    assert of_none == {"text": "*failed_open* · so"}
    long = json.loads(body_of(Webhook("http://h", "slack"), Alert("a", None, "t", "<" * 10**6, AT), "dlv_1"))
    assert len(long["text"]) < 13_000


def test_a_signature_is_of_the_time_and_the_body() -> None:
    hook = Webhook("http://h", secret="whsec_0123456789")
    headers = dict(headers_of(hook, b"{}", "dlv_1", 1234))
    expected = hmac.new(b"whsec_0123456789", b"1234.{}", hashlib.sha256).hexdigest()
    assert headers[b"x-agent-ledger-signature"] == f"t=1234,v1={expected}".encode()
    assert headers[b"x-agent-ledger-delivery"] == b"dlv_1"
    assert headers[b"content-length"] == b"2"
    assert b"x-agent-ledger-signature" not in dict(headers_of(Webhook("http://h"), b"{}", "dlv_1", 1234))
