"""A keeper's way to the store."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import Connection, Dialect, create_engine, event
from sqlalchemy.pool import NullPool

from safetylayers.oversee.modes.change import CHANNEL
from safetylayers.oversee.modes.waker import Waker
from safetylayers.oversee.store.database import Database

if TYPE_CHECKING:
    import psycopg


class Link(Protocol):
    """A way to the store, for one thread. Only `cut` may be called from another."""

    def writing(self) -> AbstractContextManager[Connection]:
        """Open a transaction that writes."""

    def reading(self) -> AbstractContextManager[Connection]:
        """Open a transaction that reads."""

    def wait(self, seconds: float) -> None:
        """Wait until there may be news, or until the time is over."""

    def cut(self) -> None:
        """End a call that hangs."""

    def drop(self) -> None:
        """Let go of the connection; the next transaction makes a new one."""


class SqliteLink:
    """To a file, looked at every few milliseconds: SQLite tells nobody of changes.

    It is the gateway's own way as well, because there the writers of a process queue up, and outside the queue a busy
    file would pass the keeper by.
    """

    def __init__(self, database: Database, waker: Waker, *, poll_s: float) -> None:
        """Take the gateway's database."""
        self._database, self._waker, self._poll_s = database, waker, poll_s

    def writing(self) -> AbstractContextManager[Connection]:
        """Open a transaction that writes."""
        return self._database.write()

    def reading(self) -> AbstractContextManager[Connection]:
        """Open a transaction that reads."""
        return self._database.read()

    def wait(self, seconds: float) -> None:
        """Wait until it is time to look."""
        self._waker.wait(min(seconds, self._poll_s))

    def cut(self) -> None:
        """Do nothing: no call waits for ever."""

    def drop(self) -> None:
        """Do nothing: what fails is let go of as it is."""


class PostgresqlLink:
    """To a server, on one connection of its own that also listens for news: no pool to wait for, no long time-out."""

    def __init__(self, database: Database, waker: Waker, *, lease_s: float) -> None:
        """Connect with the first transaction."""
        self._waker = waker
        self._connection: Connection | None = None
        self._socket: socket.socket | None = None
        milliseconds = int(lease_s * 1000)
        limits: dict[str, Any] = {
            "connect_timeout": 2,  # the shortest that libpq takes
            "options": f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds}",
            "tcp_user_timeout": milliseconds,
            "keepalives_idle": 1,
            "keepalives_interval": 1,
            "keepalives_count": 2,
        }
        self._engine = create_engine(
            database.url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=limits
        )
        event.listen(self._engine, "do_connect", self._connect)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Hand out the connection; each statement is a transaction of its own."""
        if self._connection is None:
            self._connection = self._engine.connect()
            self._connection.exec_driver_sql(f"LISTEN {CHANNEL}")
            self._connection.commit()
        with self._connection.begin():
            yield self._connection

    reading = writing

    def wait(self, seconds: float) -> None:
        """Wait for word from the server."""
        if self._connection is None:
            return self._waker.wait(seconds)
        driver: psycopg.Connection[Any] = self._connection.connection.driver_connection  # type: ignore[assignment]
        if not any(driver.notifies(timeout=0)):
            self._waker.wait(seconds, driver.fileno())
        return None

    def cut(self) -> None:
        """Shut the socket down, so that whoever waits for the server is told of an error."""
        spare = self._socket
        if spare is not None:
            with contextlib.suppress(OSError):
                spare.shutdown(socket.SHUT_RDWR)

    def drop(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        spare, self._socket = self._socket, None
        if connection is not None:
            connection.invalidate()
            connection.close()
        if spare is not None:
            spare.close()

    def _connect(self, dialect: Dialect, _record: Any, arguments: Any, options: Any) -> Any:
        """Connect, and keep a second handle to the socket: the first may be closed and reused behind our back."""
        connection = dialect.loaded_dbapi.connect(*arguments, **options)
        self._socket = socket.socket(fileno=os.dup(connection.fileno()))
        return connection


def link_to(database: Database, waker: Waker, *, lease_s: float, poll_s: float) -> Link:
    """Return a way to a database."""
    if database.is_sqlite:
        return SqliteLink(database, waker, poll_s=poll_s)
    return PostgresqlLink(database, waker, lease_s=lease_s)
