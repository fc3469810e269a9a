"""Each replica's keeper of the mode: it knows the mode at any moment, and knows when it no longer knows.

Two threads do this, so that a blocked event loop cannot hold it up: one speaks with the store; the other watches that
the first is not stuck.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import uuid4

from safetylayers.errors import StoreError, UsageError
from safetylayers.oversee.modes.heartbeat import Pulse, beat, retire
from safetylayers.oversee.modes.lease import Lease, now
from safetylayers.oversee.modes.links import link_to
from safetylayers.oversee.modes.mode import Mode, ModeState, read_mode
from safetylayers.oversee.modes.waker import Waker
from safetylayers.oversee.store.database import Database

_LOGGER = logging.getLogger(__name__)
_SOON_S = 0.02
"""Between heartbeats while a stop is not complete."""


class ModeKeeper:
    """Keeps one replica's mode.

    A lease is renewed by whole heartbeats only: one that reads the mode and is written. A replica that can read and not
    write stops as well, because it could log nothing and could confirm no stop.
    """

    def __init__(
        self,
        database: Database,
        *,
        replica: str,
        on_change: Callable[[ModeState], None],
        running: Callable[[], int],
        lease_s: float = 2.0,
        poll_s: float = 0.05,
    ) -> None:
        """Prepare; nothing happens before `start`.

        Args:
            database: where the mode is; on PostgreSQL the keeper makes its own connection.
            replica: this replica's name, for people.
            on_change: told of each new state, from either thread and never twice at once. When it returns, the replica
                has to obey: after a stop the engine is halted. What it raises is logged, and it is called again.
            running: how many replies are being made. A reply has to count before the mode is looked at for it.
            lease_s: how long the replica may go on without the store.
            poll_s: how often a SQLite file is looked at.

        Raises:
            UsageError: the lease is too short to be renewed in time, or the name is none.
        """
        if not (1 <= len(replica) <= 200 and replica.isprintable()):
            raise UsageError("This is no name for a replica.", mend="Use 1 to 200 printable characters.")
        if lease_s < 4 * poll_s:
            raise UsageError("The lease is too short.", mend=f"Make it at least {4 * poll_s} seconds.")
        self._id, self._name, self._lease_s = uuid4().hex, replica, lease_s
        self._on_change, self._running = on_change, running
        self._waker = Waker()
        self._link = link_to(database, self._waker, lease_s=lease_s, poll_s=poll_s)
        self._lease = Lease(_STARTING, float("-inf"), _STARTING)
        self._told = _STARTING
        self._telling = threading.Lock()
        self._closing, self._tried = threading.Event(), threading.Event()
        self._attempt_began: float | None = None
        self._reported: Pulse | None = None
        self._failing = False
        self._threads = [
            threading.Thread(target=work, name=f"mode-{work.__name__.strip('_')}", daemon=True)
            for work in (self._keep, self._watch)
        ]

    @property
    def state(self) -> ModeState:
        """The mode at this moment. No lock, no store: look at it before each piece that leaves."""
        return _CLOSED if self._closing.is_set() else self._lease.state

    def start(self) -> None:
        """Begin, and wait for the first attempt to reach the store, for a lease's length at most."""
        for thread in self._threads:
            thread.start()
        self._tried.wait(self._lease_s)

    def wake(self) -> None:
        """Look at the store now. For whoever changes the mode in this process."""
        self._waker.wake()

    def close(self) -> None:
        """Stop this replica for good and take it off the list."""
        self._closing.set()
        self._tell()
        self._waker.wake()
        keep, watch = self._threads
        if keep.ident is None:  # never started
            self._waker.close()
            return
        keep.join(self._lease_s)
        if keep.is_alive():
            self._link.cut()
            keep.join(self._lease_s)  # if it still hangs, it ends by itself with the store's time-out
        watch.join(self._lease_s)

    def _keep(self) -> None:
        while not self._closing.is_set():
            try:
                in_time = self._renew()
                self._failing = False
                self._tried.set()
                if in_time and not self._tell():
                    self._listen(self._lease_s / 4 if self._is_settled() else _SOON_S)
            except Exception as error:
                self._fail(error)
                self._waker.wait(self._lease_s / 8)
        self._retire()
        self._drop()
        self._waker.close()

    def _renew(self) -> bool:
        """Send a heartbeat and read the mode; the lease counts from before both. Return whether any of it is left."""
        began = self._attempt_began = now()
        pulse = Pulse(
            id=self._id,
            name=self._name,
            lease_s=self._lease_s,
            epoch=self._told.epoch,
            running=self._running(),
            state=self._told.mode,
        )
        with self._link.writing() as connection:
            beat(connection, pulse)
            read = read_mode(connection)
        self._attempt_began = None
        self._check(read)
        self._reported = pulse
        if now() - began >= self._lease_s:
            return False
        self._lease = Lease.of(read, began=began, lease_s=self._lease_s)
        return True

    def _listen(self, seconds: float) -> None:
        """Wait for a change. One that is seen is obeyed before anything is written; the lease stays as it is."""
        until = now() + seconds
        while not self._closing.is_set() and (left := until - now()) > 0:
            self._link.wait(left)
            self._attempt_began = now()
            with self._link.reading() as connection:
                read = read_mode(connection)
            self._attempt_began = None
            if read != self._lease.read:
                self._check(read)
                self._lease = Lease(read, self._lease.until, self._lease.lost)
                self._tell()
                return

    def _check(self, read: ModeState) -> None:
        """Raise StoreError where changes of mode are gone: a stop may be among what a restored store has forgotten."""
        if read.epoch < self._lease.read.epoch:
            raise StoreError(
                "The store has forgotten changes of mode.", mend="Look at what was restored, then restart the replica."
            )

    def _is_settled(self) -> bool:
        """Return whether the others know that this replica obeys."""
        said = self._reported
        if said is None or said.epoch != self._lease.read.epoch:
            return False
        return said.state is not Mode.STOPPED or said.running == 0

    def _tell(self) -> bool:
        """Tell of the state where it is new; return whether it was and is obeyed now."""
        with self._telling:
            state = self.state
            if state == self._told:
                return False
            try:
                self._on_change(state)
            except Exception:
                _LOGGER.exception("A change of mode to %s could not be carried out", state.mode)
                return False
            self._told = state
            return True

    def _watch(self) -> None:
        """Tell of a lease that is over, and cut calls that hang."""
        while not self._closing.wait(self._until_next_look()):
            self._tell()
            began = self._attempt_began
            if began is not None and now() - began > self._lease_s:
                self._link.cut()

    def _until_next_look(self) -> float:
        left = self._lease.until - now()
        return left if left > 0 else self._lease_s / 4

    def _fail(self, error: Exception) -> None:
        """Begin anew with another connection. The log is told once an outage; what an error says may hold addresses."""
        self._attempt_began = None
        if not self._failing:
            _LOGGER.warning("The mode cannot be read, or no heartbeat written (%s)", type(error).__name__)
        self._failing = True
        self._tried.set()
        self._drop()

    def _drop(self) -> None:
        try:
            self._link.drop()
        except Exception:
            _LOGGER.exception("A connection to the store could not be closed")

    def _retire(self) -> None:
        """Leave the list. A replica that still has replies stays on it until its lease is over."""
        try:
            if self._running() == 0:
                with self._link.writing() as connection:
                    retire(connection, self._id)
        except Exception as error:
            _LOGGER.warning("This replica could not take itself off the list (%s)", type(error).__name__)


def _stopped(reason: str) -> ModeState:
    since = datetime(1970, 1, 1, tzinfo=UTC)
    return ModeState(mode=Mode.STOPPED, reason=reason, by="the gateway", since=since, epoch=0)


_STARTING = _stopped("this replica has not read the mode yet")
_CLOSED = _stopped("this replica is shutting down")
