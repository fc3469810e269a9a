"""How long a replica may go on with what it last read: leases (Gray and Cheriton, 1989).

A lease counts from before the read that grants it. A reader who did not see a change began before that change was
there, so once a lease's length has passed after the change, no such reader acts any more, whatever the network does.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import timedelta

from safetylayers.oversee.identity.times import utc_now
from safetylayers.oversee.modes.mode import Mode, ModeState


def now() -> float:
    """Return seconds on a clock that nobody sets; on Linux one that goes on while the machine sleeps."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


@dataclass(frozen=True, slots=True)
class Lease:
    """What was read and until when it holds. Replaced whole, so that any thread can look at it without a lock."""

    read: ModeState
    until: float
    """On the clock of `now`."""
    lost: ModeState
    """What holds afterwards."""

    @classmethod
    def of(cls, read: ModeState, *, began: float, lease_s: float) -> Lease:
        """Return a lease on what was read in an attempt that began at `began`."""
        until = began + lease_s
        since = utc_now() + timedelta(seconds=until - now())
        lost = replace(
            read, mode=Mode.STOPPED, reason="this replica cannot reach the store", by="the gateway", since=since
        )
        return cls(read, until, lost)

    @property
    def state(self) -> ModeState:
        """What holds at this moment."""
        return self.read if now() < self.until else self.lost
