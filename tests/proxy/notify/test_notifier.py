"""Couriers over a real ledger to a receiver on a real socket; pauses are short, and nothing is said of the clock."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from policy.model import Webhook
from proxy.ledger.embedded import open_embedded
from proxy.ledger.port import Delivery, Settlement
from proxy.notify import Notifier, courier
from tests.contract.policies import agent, policy
from tests.contract.world import World, call
from tests.proxy.line.governed import FullDisk, until
from tests.proxy.upstreams import Line, Script, ScriptedUpstream, Seen, answer

SHORT_S = 0.01
OK = answer(b"ok")


def short(failures: int, chance: float) -> float:
    return SHORT_S


def never(failures: int, chance: float) -> float:
    """Not while the test runs."""
    return 1000.0


def in_turn(*answers: bytes) -> Script:
    """These answers, one a request, and the last ever after."""
    left = list(answers)

    async def script(seen: Seen, line: Line) -> None:
        await line.say(left.pop(0) if len(left) > 1 else left[0])

    return script


async def silent(seen: Seen, line: Line) -> None:
    await line.gone()


class Sending:
    """A ledger whose alerts are sent; ``raised`` are those that were, oldest first."""

    def __init__(self, world: World, notifier: Notifier) -> None:
        self.world = world
        self.notifier = notifier
        self._count = 0

    async def alert(self, count: int = 1) -> None:
        """An overrun each, on a target of its own."""
        for _ in range(count):
            self._count += 1
            admitted = await self.world.ledger.authorize(call(estimate=1, target=f"x:{self._count}"))
            await self.world.ledger.settle(admitted.action_id, Settlement(2, "success"))  # type: ignore[union-attr]

    async def use(self, *hooks: Webhook) -> None:
        self.world.policy = policy(agent(), webhooks=hooks)
        await self.world.ledger.use(self.world.policy)
        self.notifier.use(hooks)

    def held(self) -> Sequence[Delivery]:
        return self.world.ledger.deliveries()

    async def sent(self) -> None:
        """Until nothing waits."""
        await until(lambda: all(each.next_at is None for each in self.held()))


Make = Callable[..., Any]


@pytest.fixture
def sending(tmp_path: Path) -> Make:
    @asynccontextmanager
    async def make(
        *hooks: Webhook, pause: Callable[[int, float], float] = short, attempt_s: float = 5.0, ago_s: float = 0.0
    ) -> Any:
        world = World(open_embedded, tmp_path / "data", {"it": policy(agent(), webhooks=hooks)})
        world.at = int((time.time() - ago_s) * 1000)
        await world.start()
        notifier = Notifier(world.ledger, Counter(), pause=pause, attempt_s=attempt_s)
        notifier.use(hooks)
        try:
            yield Sending(world, notifier)
        finally:
            await notifier.aclose()
            await world.stop()

    return make


def ids(upstream: ScriptedUpstream) -> list[str | None]:
    return [seen.header("x-agent-ledger-delivery") for seen in upstream.seen]


def messages(upstream: ScriptedUpstream) -> list[str]:
    return [json.loads(seen.body)["message"].split(" ")[1] for seen in upstream.seen]


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


async def test_alerts_arrive_in_order_signed_and_once(sending: Make) -> None:
    async with ScriptedUpstream(in_turn(OK)) as receiver:
        async with sending(Webhook(f"{receiver.url}/T0/secret?key=1", name="ops", secret="whsec_0123456789")) as s:
            await s.alert(5)
            before = [each.id for each in s.held()]
            await s.sent()
            assert s.held() == []
            assert s.notifier.outcomes == {("ops", "delivered"): 5, ("ops", "failed"): 0}
        assert ids(receiver) == before
        assert messages(receiver) == ["x:1", "x:2", "x:3", "x:4", "x:5"]
        first = receiver.seen[0]
        assert (first.method, first.target) == ("POST", b"/T0/secret?key=1")
        assert first.header("content-type") == "application/json"
        assert first.header("host") == receiver.url.removeprefix("http://")
        assert json.loads(first.body)["deliveryId"] == before[0]
        assert first.header("x-agent-ledger-signature") is not None
        assert len(receiver.lines) == 1


async def test_one_that_fails_is_tried_until_it_is_taken_and_none_is_sent_twice(
    sending: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    failing = in_turn(answer(b"", "500 Oh"), answer(b"", "503 Busy"), OK)
    async with ScriptedUpstream(failing) as receiver, sending(Webhook(f"{receiver.url}/T0", name="ops")) as s:
        await s.alert(2)
        first, second = (each.id for each in s.held())
        await s.sent()
        assert ids(receiver) == [first, first, first, second]
        assert s.notifier.outcomes == {("ops", "delivered"): 2, ("ops", "failed"): 2}
    told = [message for message in caplog.messages if message.startswith("webhook")]
    assert told == ["webhook ops takes no alerts, they wait: status 500", "webhook ops takes alerts again"]


async def test_a_receiver_that_is_down_gets_all_in_order_once_it_is_up(sending: Make) -> None:
    port = unused_port()
    async with sending(Webhook(f"http://127.0.0.1:{port}/T0", name="ops")) as s:
        await s.alert(3)
        await until(lambda: s.held()[0].attempts > 12)
        head, *rest = s.held()
        assert (head.last_error, [each.attempts for each in rest]) == ("connection refused", [0, 0])
        assert head.next_at > head.since
        sock = socket.create_server(("127.0.0.1", port))
        async with ScriptedUpstream(in_turn(OK), sock=sock) as receiver:
            await s.sent()
            assert messages(receiver) == ["x:1", "x:2", "x:3"]


async def test_an_alert_that_the_receiver_never_takes_does_not_hold_up_those_behind_it(sending: Make) -> None:
    async def picky(seen: Seen, line: Line) -> None:
        await line.say(answer(b"", "400 Bad") if b" x:1 " in seen.body else OK)

    async with ScriptedUpstream(picky) as receiver, sending(Webhook(receiver.url, name="ops")) as s:
        await s.alert(3)
        await until(lambda: len(s.held()) == 1)
        (left,) = s.held()
        assert left.alert.message.startswith("a: x:1 ")
        assert left.attempts >= courier._YIELDS_AFTER
        assert [each for each in messages(receiver) if each != "x:1"] == ["x:2", "x:3"]


async def test_what_is_gone_is_a_dead_letter_and_goes_out_again_by_hand(sending: Make) -> None:
    gone = in_turn(answer(b"", "410 Gone"), OK)
    async with ScriptedUpstream(gone) as receiver, sending(Webhook(receiver.url, name="ops"), pause=never) as s:
        await s.alert()
        await s.sent()
        (dead,) = s.held()
        assert (dead.last_error, dead.attempts, dead.next_at) == ("status 410", 1, None)
        await s.world.ledger.redeliver(dead.id)
        await until(lambda: not s.held())
        assert ids(receiver) == [dead.id, dead.id]


async def test_after_a_day_of_trying_all_that_are_so_old_are_dead_letters(
    sending: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "GIVE_UP_S", 3 * SHORT_S)
    async with sending(Webhook(f"http://127.0.0.1:{unused_port()}", name="ops")) as s:
        await s.alert(3)
        await s.sent()
        assert [each.last_error for each in s.held()] == ["connection refused"] * 3


async def test_what_waited_while_nobody_tried_has_its_day_still_before_it(sending: Make) -> None:
    refusing = in_turn(answer(b"", "500 Down"), answer(b"", "500 Down"), OK)
    async with (
        ScriptedUpstream(refusing) as receiver,
        sending(Webhook(receiver.url, name="ops"), ago_s=3 * 24 * 3600) as s,
    ):
        await s.alert(3)
        await until(lambda: not s.held())
        assert len(set(ids(receiver))) == 3


async def test_a_redirect_is_not_followed(sending: Make) -> None:
    async with ScriptedUpstream(in_turn(OK)) as elsewhere:
        to = answer(b"", "302 Found", b"Location: " + elsewhere.url.encode())
        async with ScriptedUpstream(in_turn(to)) as receiver, sending(Webhook(receiver.url, name="ops")) as s:
            await s.alert()
            await until(lambda: s.held()[0].attempts > 1)
            assert s.held()[0].last_error == "status 302"
        assert elsewhere.seen == []


@pytest.mark.parametrize("asked", ["1000", "Wed, 21 Oct 2099 07:28:00 GMT"])
async def test_a_retry_after_is_kept_within_the_bound(sending: Make, asked: str) -> None:
    busy = answer(b"", "429 Too Many", b"Retry-After: " + asked.encode())
    async with ScriptedUpstream(in_turn(busy)) as receiver, sending(Webhook(receiver.url, name="ops")) as s:
        await s.alert()
        await until(lambda: s.held()[0].attempts == 1)
        assert 890_000 < s.held()[0].next_at - time.time() * 1000 <= 900_000
        await asyncio.sleep(5 * SHORT_S)
        assert len(receiver.seen) == 1


@pytest.mark.parametrize("asked", ["", "0", "soon", "-5", "Wed, 21 Oct 2015 07:28:00 GMT", "9" * 400])
async def test_a_retry_after_that_asks_nothing_asks_nothing(sending: Make, asked: str) -> None:
    busy = answer(b"", "503 Busy", b"Retry-After: " + asked.encode())
    async with ScriptedUpstream(in_turn(busy, OK)) as receiver, sending(Webhook(receiver.url, name="ops")) as s:
        await s.alert()
        await s.sent()
        assert len(receiver.seen) == 2


async def test_a_receiver_that_hangs_holds_up_no_other_and_is_given_up_on_in_time(
    sending: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.notify._STOP_S", 0.02)
    async with ScriptedUpstream(silent) as hanging, ScriptedUpstream(in_turn(OK)) as receiver:
        hooks = Webhook(hanging.url, name="hanging"), Webhook(receiver.url, name="ops")
        async with sending(*hooks) as s:
            await s.alert(3)
            await until(lambda: len(receiver.seen) == 3)
            assert [each.webhook for each in s.held()] == ["hanging"] * 3
            assert len(hanging.seen) == 1
        async with sending(*hooks, attempt_s=0.05) as s:
            await until(lambda: s.held()[0].attempts > 1)
            assert s.held()[0].last_error == "no answer within 0.05 s"


async def test_an_answer_is_enough_though_its_body_never_ends(sending: Make) -> None:
    async def endless(seen: Seen, line: Line) -> None:
        await line.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await line.say(b"4000\r\n" + bytes(0x4000) + b"\r\n")

    async with ScriptedUpstream(endless) as receiver, sending(Webhook(receiver.url, name="ops")) as s:
        await s.alert(2)
        await s.sent()
        assert (s.held(), len(receiver.seen)) == ([], 2)
        await until(lambda: all(line.ended.is_set() for line in receiver.lines))
        assert all(line.sent < 10 << 20 for line in receiver.lines)


async def test_a_reload_takes_what_waits_to_the_new_url_at_once(sending: Make) -> None:
    down = Webhook(f"http://127.0.0.1:{unused_port()}", name="ops")
    hanging, receiver = ScriptedUpstream(silent), ScriptedUpstream(in_turn(OK))
    async with hanging, receiver, sending(down, pause=never) as s:
        await s.alert(2)
        await until(lambda: s.held()[0].attempts == 1)
        await s.use(Webhook(hanging.url, name="ops"))
        await until(lambda: len(hanging.seen) == 1)
        await s.use(Webhook(receiver.url, name="ops"), Webhook(receiver.url, name="later"))
        hanging.lines[0].close()
        await s.sent()
        assert messages(receiver) == ["x:1", "x:2"]
        await s.use(Webhook(receiver.url, name="later"))
        await s.alert()
        await s.sent()
        assert messages(receiver) == ["x:1", "x:2", "x:3"]


async def test_what_an_ending_process_did_not_send_the_next_one_sends_at_once(sending: Make) -> None:
    port = unused_port()
    hook = Webhook(f"http://127.0.0.1:{port}", name="ops")
    async with sending(hook, pause=never) as s:
        await s.alert(2)
        await until(lambda: s.held()[0].attempts == 1)
        before = [each.id for each in s.held()]
    sock = socket.create_server(("127.0.0.1", port))
    async with ScriptedUpstream(in_turn(OK), sock=sock) as receiver, sending(hook, pause=never) as s:
        await s.sent()
        assert ids(receiver) == before


async def test_an_attempt_in_flight_is_ended_when_the_process_stops(sending: Make) -> None:
    begun, end = asyncio.Event(), asyncio.Event()

    async def slow(seen: Seen, line: Line) -> None:
        begun.set()
        await end.wait()
        await line.say(OK)

    async with ScriptedUpstream(slow) as receiver, sending(Webhook(receiver.url, name="ops")) as s:
        await s.alert(2)
        await begun.wait()
        closing = asyncio.create_task(s.notifier.aclose())
        await asyncio.sleep(0)
        end.set()
        await closing
        assert len(s.held()) == len(receiver.seen) == 1


async def test_a_receiver_that_hangs_does_not_hold_up_the_end(sending: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.notify._STOP_S", 0.02)
    async with ScriptedUpstream(silent) as hanging:
        async with sending(Webhook(hanging.url, name="ops"), attempt_s=1000.0) as s:
            await s.alert()
            await until(lambda: len(hanging.seen) == 1)
        await hanging.lines[0].ended.wait()


async def refusing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"no TLS here\r\n")
    writer.close()


@asynccontextmanager
async def untrusted() -> AsyncIterator[str]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(Path(__file__).parents[1] / "transport" / "up.pem")
    async with await asyncio.start_server(refusing, "127.0.0.1", 0, ssl=context) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def plain() -> AsyncIterator[str]:
    async with await asyncio.start_server(refusing, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_promise_10_why_it_failed_is_told_without_the_url(
    sending: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    malformed = in_turn(b"HTTP/1.1 what\r\n\r\n")
    async with plain() as address, untrusted() as self_signed, ScriptedUpstream(malformed) as odd:
        urls = {
            "refused": f"http://127.0.0.1:{unused_port()}",
            "tls": f"https://{address}",
            "certificate": f"https://{self_signed}",
            "name": "http://no-such-host.invalid",
            "odd": odd.url,
            "url": f"http://h/{'x' * 70_000}",
        }
        hooks = [Webhook(f"{url}/planted-path?k=planted-query", name=name) for name, url in urls.items()]
        async with sending(*hooks) as s:
            await s.alert()
            await until(lambda: all(each.attempts for each in s.held()))
            errors = {each.webhook: each.last_error for each in s.held()}
            trials = {each.webhook: each.error for each in await s.notifier.test()}
    assert trials == errors
    assert errors == {
        "refused": "connection refused",
        "tls": "no TLS with it",
        "certificate": "its certificate is not trusted",
        "name": "its host's name is not known",
        "odd": "a malformed answer",
        "url": "its url can't be used",
    }
    assert "planted" not in caplog.text


async def test_a_test_goes_to_every_webhook_and_is_recorded_nowhere(sending: Make) -> None:
    async with ScriptedUpstream(in_turn(OK)) as receiver, ScriptedUpstream(in_turn(answer(b"", "500 Oh"))) as failing:
        hooks = Webhook(receiver.url, types=("overrun",), name="ops"), Webhook(failing.url, "slack", name="chat")
        async with sending(*hooks) as s:
            sequence = s.world.ledger.health().sequence
            assert await s.notifier.test() == [("ops", None), ("chat", "status 500")]
            assert s.world.ledger.health().sequence == sequence
            assert (s.held(), await s.world.ledger.alerts()) == ([], [])
    assert json.loads(receiver.seen[0].body)["type"] == "test"
    assert json.loads(failing.seen[0].body) == {"text": "*test* · A test: alerts of this ledger arrive here."}


async def test_promise_8_the_alert_that_calls_pass_unrecorded_is_sent_though_no_line_can_be_written(
    sending: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(seen: Seen, line: Line) -> None:
        begun.set()
        await go_on.wait()
        await line.say(OK)

    async with ScriptedUpstream(slow) as receiver, sending(Webhook(receiver.url, name="ops")) as s:
        await s.alert()
        await begun.wait()
        disk = FullDisk(monkeypatch)
        disk.begin()
        await s.world.ledger.unrecorded(call())  # its alert fails to be written, which closes the journal
        assert [each.alert.type for each in s.held()] == ["overrun", "failed_open"]
        go_on.set()
        await until(lambda: not s.held())
        assert [json.loads(seen.body)["type"] for seen in receiver.seen] == ["overrun", "failed_open"]
        disk.end()
    async with ScriptedUpstream(in_turn(OK)) as receiver, sending(Webhook(receiver.url, name="ops")) as s:
        await s.sent()  # that it arrived is on no record: at least once
        assert [json.loads(seen.body)["type"] for seen in receiver.seen] == ["overrun"]
