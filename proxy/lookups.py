"""Look-ups of host names that starve nothing: each in a thread of its own, and one at a time for a name.

asyncio makes them in its default executor, of few threads (6 on two cores) that all else shares. There one name whose
resolver hangs holds up every other upstream, the ledger's files, and the process's end.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import Any

import uvloop


class Loop(uvloop.Loop):
    def __init__(self) -> None:
        super().__init__()
        self._looking_up: dict[tuple[Any, ...], asyncio.Future[Any]] = {}

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """As `socket.getaddrinfo`. Who no longer waits leaves the look-up to the others, and to those who come."""
        wanted = (host, port, family, type, proto, flags)
        found = self._looking_up.get(wanted)
        if found is None:
            found = self.create_future()
            # A daemon: the process may end while its resolver hangs.
            Thread(target=self._look_up, args=(wanted, found), name=f"look-up-{host!r}", daemon=True).start()
            self._looking_up[wanted] = found
            found.add_done_callback(lambda _: self._looking_up.pop(wanted))
        return await asyncio.shield(found)

    def _look_up(self, wanted: tuple[Any, ...], found: asyncio.Future[Any]) -> None:
        tell: Callable[[], None]
        try:
            tell = partial(found.set_result, socket.getaddrinfo(*wanted))
        except Exception as error:
            tell = partial(found.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            self.call_soon_threadsafe(tell)
