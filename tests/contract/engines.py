"""The engines, and what can be done to the data of each from outside."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from proxy.ledger import desk, index
from proxy.ledger.embedded import open_embedded
from proxy.ledger.port import Ledger
from proxy.ledger.verify import verify
from tests.contract.world import Open


class Engine(Open, Protocol):
    rebuilt: Sequence[str]  # what the engine makes anew from the truth, where it is lost

    def killed(self, data: Path) -> Path:
        """A folder as a kill now leaves it; the ledger that is open on ``data`` goes on there, and is to be closed."""

    def lose(self, data: Path, what: str) -> None:
        """Remove one of ``rebuilt``, while the ledger is closed."""

    def problems(self, data: Path) -> Sequence[str]:
        """What proof there is, offline, that the ledger is not whole."""


class Embedded:
    rebuilt: Sequence[str] = ("desk", "index")

    async def __call__(self, data: Path, clock: Callable[[], int]) -> Ledger:
        return await open_embedded(data, clock)

    def killed(self, data: Path) -> Path:
        return shutil.copytree(data, data.with_name(data.name + "-"))

    def lose(self, data: Path, what: str) -> None:
        path = desk.path_of(data) if what == "desk" else index.path_of(data)
        for file in data.glob(f"{path.name}*"):
            file.unlink()

    def problems(self, data: Path) -> Sequence[str]:
        return verify(data).problems


ENGINES: dict[str, Engine] = {"embedded": Embedded()}
