"""Keepers for tests: what they tell is kept, and they are closed again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from safetylayers.oversee.modes.keeper import ModeKeeper
from safetylayers.oversee.modes.mode import ModeState
from safetylayers.oversee.store.database import Database


@dataclass
class Replica:
    """A replica that does what its keeper says."""

    told: list[tuple[float, ModeState]] = field(default_factory=list)
    """When it was told, and what."""
    running: int = 0
    halting: bool = True
    """Whether a stop ends what is running."""
    faults: int = 0
    """How many times more it fails to obey."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def obey(self, state: ModeState) -> None:
        assert self.lock.acquire(blocking=False), "told twice at once"
        with self.lock_held():
            if self.faults:
                self.faults -= 1
                raise RuntimeError("cannot obey")
            if self.halting and state.mode == "stopped":
                self.running = 0
            self.told.append((time.monotonic(), state))

    @contextmanager
    def lock_held(self) -> Iterator[None]:
        try:
            yield
        finally:
            self.lock.release()

    @property
    def modes(self) -> list[str]:
        return [state.mode for _, state in self.told]


@contextmanager
def keeping(
    database: Database, replica: Replica | None = None, *, name: str = "one", lease_s: float = 2.0
) -> Iterator[tuple[ModeKeeper, Replica]]:
    """Run a keeper."""
    replica = replica or Replica()
    keeper = ModeKeeper(
        database, replica=name, on_change=replica.obey, running=lambda: replica.running, lease_s=lease_s
    )
    keeper.start()
    try:
        yield keeper, replica
    finally:
        keeper.close()


def eventually(condition: Callable[[], bool], *, within: float) -> float:
    """Wait for something; return how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within, "it did not happen in time"
        time.sleep(0.001)
    return time.monotonic() - began
