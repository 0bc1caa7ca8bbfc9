"""Hazards 1 to 24 by an attacker's hand: bytes on a socket before a real sidecar, and what of them reaches whom.

What is refused reaches nobody. What is forwarded is one request for each sent, of the same meaning, that a strict
reader takes apart in one way only.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.proxy.attacks import ANSWERS, BAD, FORWARDED, KEY, NEXT, OTHERS, SEQUENCES, at, chunks, get, r
from tests.proxy.rawhttp import Raw, refused
from tests.proxy.recorder import Recorder
from tests.sidecar import Process

POLICY = f"""
version: 1
upstreams:
  up: {{url: "URL", meter: openai, timeout: 5s, circuit_breaker: false}}
  sealed: {{url: "URL/base", timeout: 5s, set_headers: {{authorization: "Bearer upstreams-own"}}}}
agents:
  - {{id: worker, monthly_budget: 1000}}
  - {{id: keyed, monthly_budget: 1000, key: {KEY}}}
prices:
  - {{name: chat, match: {{path: "/v1/**"}}, rates: {{input_mtok: 1, output_mtok: 2}}}}
  - {{name: flat, match: {{path: "/**"}}, rates: {{request: 0.0001}}}}
"""


class Place:
    """A sidecar, and the upstream behind it."""

    def __init__(self, sidecar: Process, upstream: Recorder) -> None:
        self.sidecar = sidecar
        self.upstream = upstream
        self.port = int(sidecar.url.rpartition(":")[2])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder, upstream = tmp_path_factory.mktemp("smuggling"), Recorder()
    policy = folder / "policy.yaml"
    policy.write_text(POLICY.replace("URL", upstream.url))
    with Process(policy, folder / "data") as sidecar:
        yield Place(sidecar, upstream)
        assert sidecar.get("/api/reservations") == []
        log = sidecar.log.read_text()
        assert "ERROR" not in log
        assert sum(not line.startswith("{") for line in log.splitlines()) < 20  # beside one for each call
        assert 'agent_ledger_rejected_requests_total{code="malformed_request"}' in sidecar.api.get("/metrics").text
    upstream.close()


@pytest.fixture
def place(served: Place) -> Iterator[Place]:
    served.upstream.requests.clear()
    yield served
    assert served.upstream.problems == []


@pytest.mark.parametrize("name", BAD)
async def test_hazards_01_to_15_what_is_malformed_is_refused_and_reaches_nobody(place: Place, name: str) -> None:
    answer = await refused(place.port, BAD[name])
    assert answer.status in (400, 501)
    assert answer.json()["error"]["code"] in ("malformed_request", "transfer_encoding")
    assert place.upstream.requests == []


@pytest.mark.parametrize("name", OTHERS)
async def test_hazards_09_to_18_what_is_not_served_is_refused_by_name(place: Place, name: str) -> None:
    status, data = OTHERS[name]
    assert (await refused(place.port, data)).status == status
    assert place.upstream.requests == []


@pytest.mark.parametrize("name", FORWARDED)
async def test_hazards_01_to_15_what_is_forwarded_is_one_request_of_the_same_meaning(place: Place, name: str) -> None:
    data, (target, headers, body) = FORWARDED[name]
    async with Raw.connect(place.port) as raw:
        await raw.send(data)
        assert (await raw.answer()).status == 200
    [reached] = place.upstream.requests
    assert reached.method == data.lstrip().split(b" ")[0]
    kept = tuple(header for header in reached.headers if header[0] != b"host")
    assert (reached.target, kept, reached.body) == (target, headers, body)


@pytest.mark.parametrize("half_closed", [False, True], ids=["open", "half-closed"])
@pytest.mark.parametrize("name", SEQUENCES)
async def test_each_request_of_a_connection_is_answered_for_itself(place: Place, name: str, half_closed: bool) -> None:
    """Hazard 25: also to a client that says that it sends no more."""
    data, statuses, targets = SEQUENCES[name]
    async with Raw.connect(place.port) as raw:
        await raw.send(data)
        if half_closed:
            raw.writer.write_eof()
        assert [(await raw.answer()).status for _ in statuses] == statuses
        if half_closed:
            assert await raw.closed()
    assert [request.target for request in place.upstream.requests] == targets


@pytest.mark.parametrize(
    "part", [b"", b"GET /up", get()[:-2], r(b"Content-Length: 50", body=b"hello"), chunks(b"5\r\nhel")], ids=repr
)
async def test_a_request_that_its_client_ends_halfway_is_none(place: Place, part: bytes) -> None:
    async with Raw.connect(place.port) as raw:
        await raw.send(part)
        raw.writer.write_eof()
        assert await raw.closed()
    assert place.upstream.requests == []


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (r(b"eXpect:  100-CONTINUE ", b"Content-Length: 5"), b"HTTP/1.1 100 Continue"),
        (r(b"Expect: 100-continue", b"Content-Length: 5", agent=b""), b"HTTP/1.1 401 Unauthorized"),
        (
            r(b"Expect: 100-continue", b"Content-Length: 99999999", target=b"/up/v1/x"),
            b"HTTP/1.1 413 Request Entity Too Large",
        ),
        (r(b"Expect: 100-continue", b"Content-Length: 5", version=b"HTTP/1.0", body=b"hello"), b"HTTP/1.1 200 OK"),
    ],
)
async def test_a_client_that_expects_100_is_told_to_go_on_or_why_not(place: Place, data: bytes, said: bytes) -> None:
    async with Raw.connect(place.port) as raw:
        await raw.send(data)
        assert (await raw.reader.readuntil(b"\r\n")).rstrip() == said


@pytest.mark.parametrize("name", ANSWERS)
async def test_hazards_19_to_24_what_an_upstream_says_is_passed_on_in_one_reading(place: Place, name: str) -> None:
    said, (status, body, whole) = ANSWERS[name]
    place.upstream.answers[b"/said"] = said
    async with Raw.connect(place.port) as raw:
        await raw.send(at(b"/up/said"))
        answer = await raw.answer()
        assert (answer.status, answer.complete) == (status, whole)
        assert answer.body == body or body is None
        names = {key.lower() for key, _ in answer.headers}
        assert names.isdisjoint({b"keep-alive", b"upgrade", b"trailer", b"x-h", b"x-agent-id", b"set-cookie"})
        assert len(answer.header_all("content-length") + answer.header_all("transfer-encoding")) <= 1
        if whole:  # the connection serves on, and no byte of that answer is left for the next
            await raw.send(NEXT)
            assert (await raw.answer()).body == b"ok"
