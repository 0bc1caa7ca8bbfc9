"""New connections: names, addresses, TLS, and what becomes of those that are not to be had."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from proxy.transport import dialing
from tests.proxy.rawhttp import WAIT_S
from tests.proxy.transport.calls import answer_of, ask, transport_to
from tests.proxy.upstreams import ScriptedUpstream, answer, says

PEM = Path(__file__).parent / "up.pem"  # of up.test, signed by itself


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(PEM))
    context.set_alpn_protocols(["http/1.1"])
    return context


@asynccontextmanager
async def full() -> AsyncIterator[int]:
    """A port that takes no more connections, and refuses none: its queue is full."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    port = listener.getsockname()[1]
    waiting = []
    for _ in range(4):
        waiting.append(sock := socket.socket())
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", port))
    await asyncio.sleep(0.01)
    try:
        yield port
    finally:
        for sock in (*waiting, listener):
            sock.close()


def names(monkeypatch: pytest.MonkeyPatch, *ports: int) -> None:
    """Any name has these addresses."""

    async def found(*given: Any, **more: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]

    monkeypatch.setattr(dialing, "_addresses", found)


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def descriptors() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_the_next_address_is_tried_where_one_refuses_or_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ScriptedUpstream(says(answer(b"ok"))) as upstream, full() as hanging:
        names(monkeypatch, closed_port(), hanging, int(upstream.url.rpartition(":")[2]))
        async with transport_to("http://up.test") as transport:
            assert (await answer_of(transport))[2] == b"ok"


async def test_no_address_that_accepts_is_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, closed_port(), closed_port())
    async with transport_to("http://up.test") as transport:
        with pytest.raises(httpx.ConnectError):
            await ask(transport)


@pytest.mark.parametrize("addresses", [1, 2])
async def test_a_connection_takes_no_longer_than_it_may_and_leaves_no_socket(
    addresses: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with full() as hanging, transport_to("http://up.test") as transport:
        names(monkeypatch, *[hanging] * addresses)
        before = descriptors()
        with pytest.raises(httpx.ConnectTimeout):
            await ask(transport, connect=0.05)
        call = asyncio.create_task(ask(transport))
        await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.sleep(0.01)
        assert descriptors() == before


async def test_a_scheme_that_is_not_spoken() -> None:
    async with transport_to("ftp://up.test") as transport:
        with pytest.raises(httpx.UnsupportedProtocol):
            await ask(transport)


async def test_no_delay() -> None:
    async with ScriptedUpstream(says(answer(b"ok"))) as upstream, transport_to(upstream.url) as transport:
        await answer_of(transport)
        [connection] = transport._pool._open
        sock = connection._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@asynccontextmanager
async def secured(said: bytes = answer(b"ok")) -> AsyncIterator[tuple[int, list[Any]]]:
    """A port that speaks TLS as up.test, and what each client said in its hello."""
    hellos: list[Any] = []
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(PEM)
    context.set_alpn_protocols(["h2", "http/1.1"])
    context.sni_callback = lambda sock, name, _: hellos.append(name)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hellos.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(said)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1], hellos
        await asyncio.sleep(0.02)


async def test_tls_names_the_host_speaks_http_1_1_and_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    async with secured() as (port, hellos):
        names(monkeypatch, port)
        async with transport_to("https://up.test", tls=trusting()) as transport:
            for _ in range(3):
                assert (await answer_of(transport))[2] == b"ok"
            assert hellos == ["up.test", "http/1.1"]


@pytest.mark.parametrize("length", [10_000_000])
async def test_a_great_answer_and_a_great_body_pass_through_tls(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async with secured(answer(b"a" * length)) as (port, _):
        names(monkeypatch, port)
        async with transport_to("https://up.test", tls=trusting()) as transport:
            assert len((await answer_of(transport))[2]) == length


@pytest.mark.parametrize(
    ("url", "tls"), [("https://other.test", trusting), ("https://up.test", ssl.create_default_context)]
)
async def test_a_certificate_that_is_not_the_hosts_or_not_trusted_is_no_connection(
    url: str, tls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with secured() as (port, _):
        names(monkeypatch, port)
        async with transport_to(url, tls=tls()) as transport:
            before = descriptors()
            with pytest.raises(httpx.ConnectError):
                await ask(transport)
            await asyncio.sleep(0.05)
            assert descriptors() <= before


async def test_a_handshake_takes_no_longer_than_it_may_and_leaves_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ScriptedUpstream(says(answer())) as upstream:
        names(monkeypatch, int(upstream.url.rpartition(":")[2]))
        async with transport_to("https://up.test", tls=trusting()) as transport:
            with pytest.raises(httpx.ConnectTimeout):
                await ask(transport, connect=0.05)
            while not upstream.lines:
                await asyncio.sleep(0)
            await asyncio.wait_for(upstream.lines[0].ended.wait(), WAIT_S)
        assert upstream.seen == []
