"""Connections to PostgreSQL that are not waited for without end.

The server's own time-outs hold only while it can be heard, and the kernel's only while nobody acknowledges what is
sent. A proxy in between can acknowledge for ever and hand nothing on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import Connection

ANSWER_S = 6.0
"""How long an answer may take. The server's own time-outs are shorter, and come first wherever they can be heard."""

Answer = TypeVar("Answer")


class PatientConnection(psycopg.Connection[Any]):
    """A connection that is given up where an answer takes too long."""

    answer_s: float | None = None
    """None for no limit."""

    def wait(self, gen: PQGen[Answer], interval: float = 0.1, timeout: float | None = None) -> Answer:
        """Wait for an answer; without a `timeout` of the caller's, no longer than `answer_s`.

        Raises:
            psycopg.OperationalError: none came in time. The connection is closed then: nobody knows how far it got.
        """
        limit, begun = self.answer_s, time.monotonic()
        if timeout is not None or limit is None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, limit)
        except psycopg.OperationalError:
            if time.monotonic() - begun >= limit:
                self.pgconn.finish()
            raise


def connect(_dialect: Any, _record: Any, arguments: Any, options: Any) -> PatientConnection:
    """Connect, for SQLAlchemy's event `do_connect`."""
    connection = PatientConnection.connect(*arguments, **options)
    connection.answer_s = ANSWER_S
    return connection


def without_limit(connection: Connection) -> AbstractContextManager[None]:
    """Within the block, an answer on this connection may take as long as it wants."""
    return with_limit(connection, None)


@contextmanager
def with_limit(connection: Connection, answer_s: float | None) -> Iterator[None]:
    """Within the block, an answer on this connection may take this long; None for no limit."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, PatientConnection):
        yield
        return
    driver.answer_s = answer_s
    try:
        yield
    finally:
        driver.answer_s = ANSWER_S
