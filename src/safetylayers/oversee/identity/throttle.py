"""How often anybody may try to log in, kept in the database so that all replicas count together.

After a few failures each further one closes the door for twice as long as the one before: for the network that they
come from, for the name there, and for the name from everywhere. The last does not hold for networks from which that
name has logged in before, so that nobody keeps anybody from the stop button by guessing. An attempt counts as failed
before the password is looked at, so that attempts at the same time do not slip through together.
"""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any

from sqlalchemy import Connection, Row, select
from sqlalchemy.dialects import postgresql, sqlite

from safetylayers.errors import AccessError
from safetylayers.oversee.identity.tables import attempts
from safetylayers.oversee.identity.times import Clock, utc_now
from safetylayers.oversee.store.database import Database

FORGOTTEN_AFTER = timedelta(hours=1)
LONGEST = timedelta(minutes=5)
"""How long a door is closed at most."""
KNOWN_FOR = timedelta(days=90)
"""How long it is remembered that a name has logged in from a network."""
COMMAND_LINE = "command line"
"""Where attempts come from that are typed beside the database. Every name is known there."""
BUCKETS = 2**20
"""Names and addresses are counted by bucket: the table cannot be filled up, and a password that somebody typed as their
name is not kept."""
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


class LockedOutError(AccessError):
    """Too many attempts to log in failed."""

    def __init__(self, seconds: int) -> None:
        """Say when to try again."""
        self.retry_after_s = seconds
        super().__init__("Too many attempts to log in failed.", mend=f"Try again in {seconds} seconds.")


@dataclass(frozen=True, slots=True)
class _Limit:
    """What is counted, and how often it may fail before it has to wait."""

    bucket: str
    free: int


class Throttle:
    """Counts attempts per name and per address."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock = utc_now,
        free_per_name: int = 5,
        free_per_address: int = 20,
    ) -> None:
        """Count in a database."""
        self._database, self._clock = database, clock
        self._free_per_name, self._free_per_address = free_per_name, free_per_address

    def admit(self, name: str, address: str) -> None:
        """Count an attempt, for now as failed.

        Raises:
            LockedOutError: too many failed before; this one is not counted.
        """
        now, limits = self._clock(), self._limits(name, address)
        with self._database.write() as connection:
            if address == COMMAND_LINE or _is_known(connection, _known(name, address), now):
                limits = limits[1:]
            rows = [_locked(connection, limit.bucket, now) for limit in limits]
            closed_until = max(row.closed_until for row in rows)
            if closed_until > now:
                raise LockedOutError(ceil((closed_until - now).total_seconds()))
            for limit, row in zip(limits, rows, strict=True):
                failures = 1 + (row.failures if now - row.last < FORGOTTEN_AFTER else 0)
                values = {"failures": failures, "last": now, "closed_until": now + _pause(failures - limit.free)}
                connection.execute(attempts.update().where(attempts.c.bucket == limit.bucket).values(values))

    def succeeded(self, name: str, address: str) -> None:
        """Take back what `admit` counted, forget the name's failures, and remember where it logged in from.

        An address keeps its other failures: one good password of one's own must not pay for guessing at others'.
        """
        *of_name, of_address = self._limits(name, address)
        with self._database.write() as connection:
            for limit in of_name:
                connection.execute(attempts.delete().where(attempts.c.bucket == limit.bucket))
            known, now = _known(name, address), self._clock()
            _locked(connection, known, now)
            connection.execute(attempts.update().where(attempts.c.bucket == known).values(last=now))
            connection.execute(
                attempts.update()
                .where(attempts.c.bucket == of_address.bucket, attempts.c.failures > 0)
                .values(failures=attempts.c.failures - 1, closed_until=_LONG_AGO)
            )

    def _limits(self, name: str, address: str) -> tuple[_Limit, ...]:
        """Return what an attempt counts for, always in the order in which rows are locked; the name alone first."""
        return (
            _Limit(f"name-{_bucket(_normal(name))}", self._free_per_name),
            _Limit(f"there-{_bucket(_there(name, address))}", self._free_per_name),
            _Limit(f"address-{_bucket(_network(address))}", self._free_per_address),
        )


def _normal(name: str) -> str:
    return name.strip().casefold()


def _there(name: str, address: str) -> str:
    return f"{_network(address)} {_normal(name)}"


def _known(name: str, address: str) -> str:
    return f"known-{_bucket(_there(name, address))}"


def _is_known(connection: Connection, bucket: str, now: datetime) -> bool:
    last = connection.execute(select(attempts.c.last).where(attempts.c.bucket == bucket)).scalar()
    return last is not None and now - last < KNOWN_FOR


def _pause(failures_too_many: int) -> timedelta:
    """Return 1, 2, 4 ... seconds."""
    if failures_too_many < 0:
        return timedelta(0)
    return min(timedelta(seconds=2 ** min(failures_too_many, 30)), LONGEST)


def _locked(connection: Connection, bucket: str, now: datetime) -> Row[Any]:
    """Return a bucket's row, which nobody else changes until the transaction ends."""
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    new = insert(attempts).values(bucket=bucket, failures=0, last=now, closed_until=_LONG_AGO)
    connection.execute(new.on_conflict_do_nothing())
    return connection.execute(select(attempts).where(attempts.c.bucket == bucket).with_for_update()).one()


def _bucket(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8]) % BUCKETS


def _network(address: str) -> str:
    """Return an address as it is counted: of IPv6 the first 64 bits, because whoever has one address has them all."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        mapped = parsed.ipv4_mapped  # what a socket that listens for both kinds calls an IPv4 address
        return str(mapped) if mapped else str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
