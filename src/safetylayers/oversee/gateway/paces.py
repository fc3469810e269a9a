"""How fast each key may ask, on this replica."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from safetylayers.errors import BusyError
from safetylayers.oversee.identity.principal import Principal

MINUTE = 60.0


class Paces:
    """The last minute's requests of every key that has a limit."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with none."""
        self._clock = clock
        self._taken: dict[str, deque[float]] = {}

    def take(self, principal: Principal) -> None:
        """Count one more request. Raises BusyError where the key has had its share of this minute."""
        most = principal.requests_per_minute
        if most is None:
            return
        now = self._clock()
        taken = self._taken.setdefault(principal.id, deque())
        while taken and taken[0] <= now - MINUTE:
            taken.popleft()
        if len(taken) >= most:
            wait = taken[0] + MINUTE - now
            raise BusyError(f"This key may ask {most} times a minute.", mend=f"Ask again in {wait:.0f} seconds.")
        taken.append(now)
