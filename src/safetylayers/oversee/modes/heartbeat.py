"""What replicas tell of themselves. Times are the database's, so that replicas' clocks need not agree."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select, type_coerce

from safetylayers.oversee.identity.times import Moment
from safetylayers.oversee.modes.mode import Mode
from safetylayers.oversee.modes.tables import replicas

SLACK = timedelta(seconds=2)
"""SQLite's clock ticks in seconds."""
FORGOTTEN_AFTER = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """What a replica says each time."""

    id: str
    """Of this start of the replica."""
    name: str
    lease_s: float
    epoch: int
    """Of the last change of mode that this replica obeys."""
    running: int
    """How many replies it is making."""
    state: Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """A replica, as the others see it."""

    id: str
    name: str
    lease_s: float
    started: datetime
    seen: datetime
    epoch: int
    running: int
    state: Mode
    alive: bool
    """Whether its lease may still run."""


def beat(connection: Connection, pulse: Pulse) -> None:
    """Tell the others; the first time also clear away replicas that are long gone."""
    said = {"seen": func.now(), "epoch": pulse.epoch, "running": pulse.running, "state": pulse.state}
    known = connection.execute(replicas.update().where(replicas.c.id == pulse.id).values(said))
    if known.rowcount:
        return
    connection.execute(replicas.delete().where(replicas.c.seen < _database_time(connection) - FORGOTTEN_AFTER))
    first = {"id": pulse.id, "name": pulse.name, "lease_s": pulse.lease_s, "started": func.now()}
    connection.execute(replicas.insert().values({**first, **said}))


def retire(connection: Connection, replica: str) -> None:
    """Take a replica off the list."""
    connection.execute(replicas.delete().where(replicas.c.id == replica))


def list_replicas(connection: Connection) -> list[Replica]:
    """Return all replicas that are not retired, by name."""
    time = _database_time(connection)
    return [
        Replica(
            id=row.id,
            name=row.name,
            lease_s=row.lease_s,
            started=row.started,
            seen=row.seen,
            epoch=row.epoch,
            running=row.running,
            state=Mode(row.state),
            alive=time - row.seen <= timedelta(seconds=row.lease_s) + SLACK,
        )
        for row in connection.execute(select(replicas).order_by(replicas.c.name, replicas.c.started))
    ]


def _database_time(connection: Connection) -> datetime:
    moment: datetime = connection.execute(select(type_coerce(func.now(), Moment))).scalar_one()
    return moment
