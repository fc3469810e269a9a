"""Replies that are being made on this replica, for people to watch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from safetylayers.oversee.gateway.reply import Overseer


class Live:
    """All running replies, by name, in the order in which they came."""

    def __init__(self) -> None:
        """Begin with none."""
        self._running: dict[str, Overseer] = {}

    @contextmanager
    def following(self, overseer: Overseer) -> Iterator[None]:
        """Within the block, a reply is among those running."""
        name = overseer.ask.id
        self._running[name] = overseer
        try:
            yield
        finally:
            self._running.pop(name, None)

    def __len__(self) -> int:
        return len(self._running)

    @property
    def running(self) -> list[Overseer]:
        """All running replies."""
        return list(self._running.values())

    def find(self, name: str) -> Overseer | None:
        """Return a running reply."""
        return self._running.get(name)
