"""The database: SQLite in a file, or PostgreSQL for several replicas.

Statements are SQLAlchemy Core, run in threads; errors do not show the values in them. A write on SQLite takes its lock
at the start, so that two writers wait for each other and never fail half-way.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, MetaData, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from safetylayers.errors import StoreError

metadata = MetaData()
"""All rooms' tables; each room defines its own in its `tables.py`."""

IDLE_S = 1.0
"""How long PostgreSQL waits for the next statement of a transaction. A replica that is cut off in the middle of one
holds the log's lock, and with it everybody else's stop, for no longer than this."""
WAIT_S = 5.0
"""How long a statement may wait for another writer, or a connection for its server."""

_AFTER = "safetylayers.after_commit"


class Database:
    """An open database. Its methods block; asynchronous code calls them in a thread."""

    def __init__(self, url: str) -> None:
        """Open a database; `sqlite:///FILE` is made where it is missing, its folder as well.

        Raises:
            StoreError: the address makes no sense, or the folder cannot be made.
        """
        self.url = _parsed(url)
        self.engine = _sqlite(self.url) if self.is_sqlite else _postgresql(self.url)
        # SQLite's writers look every now and then whether it is their turn, and a busy one can pass them by for long.
        # Those of one process therefore queue here.
        self._turn = _Turn() if self.is_sqlite else nullcontext()

    @property
    def is_sqlite(self) -> bool:
        """Whether this is a file."""
        return self.url.get_backend_name() == "sqlite"

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Within the block, one transaction: all of it is kept, or nothing.

        Raises:
            StoreError: the database cannot be reached, is full, or refuses.
        """
        with _told(), self._turn, self.engine.connect() as connection:
            if self.is_sqlite:
                connection.execution_options(begin="IMMEDIATE")
            connection.info.pop(_AFTER, None)  # of a transaction that failed
            with connection.begin():
                yield connection
            calls = connection.info.pop(_AFTER, ())
        for call in calls:
            call()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Within the block, one view of the data, whatever others write meanwhile. Raises StoreError."""
        with _told(), self.engine.connect() as connection:
            if not self.is_sqlite:
                connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            with connection.begin():
                yield connection

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()


def after_commit(connection: Connection, call: Callable[[], None]) -> None:
    """Have something done as soon as what the running `Database.write` writes is kept; never where it is not."""
    connection.info.setdefault(_AFTER, []).append(call)


class _Turn:
    """A lock that is not waited for without end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if not self._lock.acquire(timeout=WAIT_S):
            raise StoreError("Another writer keeps the database.", mend="Try again; if it stays so, restart.")

    def __exit__(self, *_: object) -> None:
        self._lock.release()


@contextmanager
def _told() -> Iterator[None]:
    """Turn what the library raises into what users can mend."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:  # the latter while a connection is made ready
        raise StoreError(
            f"The database does not do what it is asked ({_first_line(error)}).",
            mend="See that it runs, can be reached, and has room.",
        ) from error


def _first_line(error: Exception) -> str:
    origin = getattr(error, "orig", None) or error
    return (str(origin).splitlines() or [type(origin).__name__])[0]


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise StoreError(
            "The database's address makes no sense.", mend="Write sqlite:///FILE or postgresql://USER@HOST/NAME."
        ) from error
    kind = parsed.get_backend_name()
    if kind == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if kind == "sqlite":
        return parsed
    raise StoreError(f"{kind}: no such kind of database.", mend="Use sqlite or postgresql.")


def _sqlite(url: URL) -> Engine:
    if url.database and url.database != ":memory:":
        _make_folder(Path(url.database).parent)
    engine = create_engine(
        url,
        hide_parameters=True,
        connect_args={"timeout": WAIT_S, "isolation_level": None, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        # secure_delete: what is erased is overwritten as well.
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('begin', 'DEFERRED')}")

    return engine


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"{folder}: the database's folder cannot be made ({error.strerror}).", mend="Choose another folder."
        ) from error


def _postgresql(url: URL) -> Engine:
    settings = {
        "statement_timeout": WAIT_S,
        "lock_timeout": WAIT_S,
        "idle_in_transaction_session_timeout": IDLE_S,
    }
    options = [f"{name}={int(1000 * seconds)}" for name, seconds in settings.items()]
    # The server, too, notices soon that a client is gone, and lets go of its locks.
    options += ["tcp_keepalives_idle=1", "tcp_keepalives_interval=1", "tcp_keepalives_count=2"]
    engine = create_engine(
        url,
        hide_parameters=True,
        pool_size=8,
        max_overflow=8,
        pool_timeout=WAIT_S,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": int(WAIT_S),
            "options": " ".join(f"-c {option}" for option in options),
            "tcp_user_timeout": int(WAIT_S * 1000),
        },
    )
    # Many rows go as one statement. psycopg's own way is a pipeline, in which none of the server's time-outs counts
    # between two statements: a replica that is cut off there would hold its locks for ever.
    engine.dialect.use_insertmanyvalues_wo_returning = True
    return engine


def ping(database: Database) -> None:
    """Raise StoreError unless the database answers."""
    with database.read() as connection:
        connection.execute(text("SELECT 1"))
