from __future__ import annotations

import json

import pytest

from policy.model import UsageSource
from proxy.metering import reader_for
from proxy.metering.base import FAILED, Metered

CALL = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "search"}}
NOTE = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": '"isError":true', "error": {"x": 1}}}
ASKS = {"jsonrpc": "2.0", "id": 2, "method": "sampling/createMessage", "params": {"text": "isError"}}
OTHERS = {"jsonrpc": "2.0", "id": 9, "result": {"content": [], "isError": True}}
CREDITS = UsageSource("credits", "response", "result._meta.credits")


def answer(result=None, **more):
    return {"jsonrpc": "2.0", "id": 2, **({} if result is None else {"result": result}), **more}


def metered(*documents, stream, request=CALL, status=200, sources=()):
    if stream:
        text = b": ping\r\n\r\n" + b"".join(
            b"event: message\r\ndata: %s\r\n\r\n" % json.dumps(each).encode() for each in documents
        )
        kind = "text/event-stream"
    else:
        text, kind = json.dumps(documents[-1]).encode(), "application/json"
    reader = reader_for("mcp", "/mcp", status, kind, "", sources, request_body=request)
    reader.feed(text)
    return reader.finish()


OK = answer({"content": [{"type": "text", "text": 'it says "isError": true and "error": {}'}], "isError": False})
TOOL_FAILED = answer({"content": [], "isError": True})
RPC_FAILED = answer(error={"code": -32602, "message": "no such tool"})


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("document", "flags"),
    [
        (OK, ()),
        (answer({"tools": []}), ()),
        (TOOL_FAILED, ("tool_error",)),
        (RPC_FAILED, ("rpc_error",)),
        ({"jsonrpc": "2.0", "id": None, "error": {"code": -32700}}, ("rpc_error",)),
        (answer({"isError": "true"}), ()),
    ],
)
def test_whether_the_request_failed(document, flags, stream):
    assert metered(NOTE, ASKS, document, stream=stream) == Metered(flags=flags)
    assert FAILED.issuperset(flags)


@pytest.mark.parametrize("others", [NOTE, ASKS, OTHERS])
@pytest.mark.parametrize("stream", [False, True])
def test_only_the_answer_to_the_request_counts(others, stream):
    assert metered(others, stream=stream).flags == ()
    assert metered(OTHERS, RPC_FAILED, stream=stream).flags == ("rpc_error",)


def test_where_the_request_is_not_known_any_answer_counts():
    assert metered(OTHERS, stream=False, request=None).flags == ("tool_error",)


def test_a_batch_of_answers():
    reader = reader_for("mcp", "/mcp", 200, "application/json", "", request_body=CALL)
    reader.feed(json.dumps([OTHERS, NOTE, RPC_FAILED]).encode())
    assert reader.finish() == Metered(flags=("rpc_error",))


def test_an_accepted_notification_says_nothing():
    reader = reader_for("mcp", "/mcp", 202, "application/json", "", request_body={"method": "notifications/x"})
    reader.feed(b"")
    assert reader.finish() == Metered()


@pytest.mark.parametrize("stream", [False, True])
def test_a_rules_own_units_are_read_from_the_answer(stream):
    charged = answer({"content": [], "isError": False, "_meta": {"credits": 3}})
    assert metered(NOTE, charged, stream=stream, sources=(CREDITS,)) == Metered({"credits": 3})
    failed = answer({"content": [], "isError": True, "_meta": {"credits": 1}})
    assert metered(failed, stream=stream, sources=(CREDITS,)) == Metered({"credits": 1}, flags=("tool_error",))


@pytest.mark.parametrize("stream", [False, True])
def test_promise_7_an_answer_without_the_units_is_not_measured(stream):
    assert metered(OK, stream=stream, sources=(CREDITS,)).usage is None


def test_what_a_tool_says_is_not_counted_as_a_models_output():
    assert metered(OK, stream=True).seen == 0
