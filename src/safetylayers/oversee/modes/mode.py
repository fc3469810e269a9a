"""The three modes, and what is known of the one in force."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from sqlalchemy import Connection, select

from safetylayers.oversee.modes.tables import mode as table


class Mode(StrEnum):
    """What the gateway does, from the least safe to the safest."""

    RUN = "run"
    """Ask the model and reply, by the policy."""
    RESTRICTED = "restricted"
    """As the policy says for restricted times: stricter, slower, for fewer people."""
    STOPPED = "stopped"
    """Nothing is asked and nothing leaves."""

    @property
    def safety(self) -> int:
        """0 for the least safe."""
        return list(Mode).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeState:
    """The mode in force, as a replica or a page shows it."""

    mode: Mode
    reason: str
    by: str
    """Name of who set it."""
    since: datetime
    epoch: int
    """Grows with every change; 0 before the first."""


_NEVER_SET = ModeState(
    mode=Mode.STOPPED,
    reason="no mode has been set yet",
    by="the gateway",
    since=datetime(1970, 1, 1, tzinfo=UTC),
    epoch=0,
)
"""What holds without a row: a gateway whose row is lost stays shut."""


def read_mode(connection: Connection, *, for_update: bool = False) -> ModeState:
    """Return what the store says. With `for_update`, nobody else changes it until the transaction ends."""
    query = select(table)
    row = connection.execute(query.with_for_update() if for_update else query).first()
    if row is None:
        return _NEVER_SET
    return ModeState(mode=Mode(row.mode), reason=row.reason, by=row.by, since=row.since, epoch=row.epoch)
