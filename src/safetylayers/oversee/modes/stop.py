"""Stopping everything, and measuring how long it took.

A replica is known to be stopped in one of two ways: it says so, or its lease has passed since the stop was in the
store. The second needs no network: a replica that did not see the stop read the mode before the stop was there, and
its lease counts from before that read.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from typing import Literal

from safetylayers.errors import OversightError, StoreError
from safetylayers.oversee.audit.entry import JSON, Entry
from safetylayers.oversee.audit.log import AuditLog
from safetylayers.oversee.identity.principal import Principal
from safetylayers.oversee.identity.times import Clock, utc_now
from safetylayers.oversee.modes.change import set_mode
from safetylayers.oversee.modes.heartbeat import Replica, list_replicas
from safetylayers.oversee.modes.lease import now
from safetylayers.oversee.modes.mode import Mode
from safetylayers.oversee.store.database import Database

_LOOK_S = 0.01
_PATIENCE_S = 5.0
"""How long the list of replicas is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaStop:
    """How one replica stopped."""

    name: str
    how: Literal["confirmed", "closed", "lease"]
    """It said so; it was closed meanwhile; or its lease is over, so that it must have stopped."""
    after_ms: float
    """Since the order; this is when it was known, and so the most that it took."""
    running: int
    """Replies it was making when it last said so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopReport:
    """A stop, measured."""

    epoch: int
    replicas: tuple[ReplicaStop, ...]
    took_ms: float
    """Until the last replica was known to be stopped."""
    logged: bool
    """Whether the measurement is in the log. The stop itself always is."""


def stop_everything(
    database: Database, log: AuditLog, *, by: Principal, reason: str, clock: Clock = utc_now
) -> StopReport:
    """Stop all replicas, and return once each is known to be stopped; that takes the longest lease at most.

    Each replica's own lease counts, as its heartbeats state it.

    Raises:
        AccessError: no right to.
        StoreError: the stop could not be written; or it was, as the error then says, and the replicas cannot be
            listed. Replicas that cannot reach the store either stop by themselves.
    """
    began = now()
    state = set_mode(database, log, Mode.STOPPED, by=by, reason=reason, clock=clock)
    stops = _wait_for_all(database, state.epoch, began, now())
    took = max((stop.after_ms for stop in stops), default=_ms_since(began))
    return _logged(database, log, by, StopReport(epoch=state.epoch, replicas=tuple(stops), took_ms=took, logged=True))


def _wait_for_all(database: Database, epoch: int, began: float, written: float) -> list[ReplicaStop]:
    """Wait until each replica that may still act when the stop is written is known to be stopped."""
    listed = _listed_at_first(database)
    waiting = {id_: replica for id_, replica in listed.items() if replica.alive}
    stops = []
    while True:
        for id_, replica in list(waiting.items()):
            seen = listed.get(id_)
            how = _how(replica, seen, epoch, now() - written)
            if how is not None:
                running = seen.running if seen else 0
                stops.append(ReplicaStop(name=replica.name, how=how, after_ms=_ms_since(began), running=running))
                del waiting[id_]
        if not waiting:
            return stops
        time.sleep(_LOOK_S)
        with contextlib.suppress(StoreError):  # leases end without the store
            listed = _listed(database)


def _how(
    replica: Replica, seen: Replica | None, epoch: int, waited_s: float
) -> Literal["confirmed", "closed", "lease"] | None:
    """Return how a replica is known to be stopped; None while it is not."""
    if seen is None:
        return "closed"
    if seen.epoch >= epoch and seen.running == 0:
        return "confirmed"
    return "lease" if waited_s >= replica.lease_s else None


def _listed(database: Database) -> dict[str, Replica]:
    with database.read() as connection:
        return {replica.id: replica for replica in list_replicas(connection)}


def _listed_at_first(database: Database) -> dict[str, Replica]:
    """Return the replicas, asking again where the store falters: the stop is in it already."""
    until = now() + _PATIENCE_S
    while True:
        try:
            return _listed(database)
        except StoreError as error:
            if now() > until:
                raise StoreError(
                    "The gateway is stopped; its replicas cannot be listed, so when each ended is not known.",
                    mend="Each ends by itself when its lease is over at the latest. See that the database runs.",
                ) from error
            time.sleep(_LOOK_S)


def _logged(database: Database, log: AuditLog, by: Principal, report: StopReport) -> StopReport:
    """Log the measurement. It must not fail the stop, which is done."""
    replicas: list[JSON] = [
        {"name": stop.name, "how": stop.how, "after_ms": round(stop.after_ms, 1), "running": stop.running}
        for stop in report.replicas
    ]
    facts: dict[str, JSON] = {"epoch": report.epoch, "took_ms": round(report.took_ms, 1), "replicas": replicas}
    try:
        with database.write() as connection:
            log.append_in(connection, [Entry(kind="stop-measured", actor=by.actor, facts=facts)])
    except OversightError:
        return replace(report, logged=False)
    return report


def _ms_since(began: float) -> float:
    return (now() - began) * 1000
