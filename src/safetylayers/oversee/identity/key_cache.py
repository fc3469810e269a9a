"""Keys read a moment ago, so that a busy gateway does not ask the database with each request."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

LARGEST = 4096
"""Whoever makes up keys fills this and no more."""


@dataclass(frozen=True, slots=True)
class Held:
    """What was read, and when."""

    read: float
    row: Row[Any] | None
    """None where there is no such key."""


class KeyCache:
    """Rows by key id, for a few seconds, unknown ids too. It holds hashes of secrets and no secret."""

    def __init__(self, seconds: float) -> None:
        """Keep rows for so long."""
        self._seconds = seconds
        self._held: dict[str, Held] = {}
        self._lock = threading.Lock()

    def get(self, key: str, look_up: Callable[[str], Row[Any] | None]) -> Row[Any] | None:
        """Return a row; look it up where it was not, or too long ago."""
        held = self.peek(key)
        if held is not None:
            return held.row
        read = time.monotonic()  # before the look-up: what is read may be older than its end
        row = look_up(key)
        with self._lock:
            if len(self._held) >= LARGEST:
                self._held.clear()
            self._held[key] = Held(read, row)
        return row

    def peek(self, key: str) -> Held | None:
        """Return what was read a moment ago; None where nothing was."""
        held = self._held.get(key)
        return held if held is not None and time.monotonic() - held.read < self._seconds else None

    def forget(self, key: str) -> None:
        """Look a key up again the next time."""
        with self._lock:
            self._held.pop(key, None)
