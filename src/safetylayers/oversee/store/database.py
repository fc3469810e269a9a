"""The database: SQLite in a file, or PostgreSQL for several replicas.

Statements are SQLAlchemy Core, run in threads; errors do not show the values in them. A write on SQLite takes its lock
at the start, so that two writers wait for each other and never fail half-way.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
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
SWEEP_S = 0.1
"""How long emptying SQLite's write-ahead log may hold up others."""

_AFTER = "safetylayers.after_commit"


class Database:
    """An open database. Its methods block; asynchronous code calls them in a thread."""

    def __init__(self, url: str, *, make: bool = True) -> None:
        """Open a database.

        Args:
            url: its address.
            make: whether `sqlite:///FILE` is made where it is missing, its folder as well.

        Raises:
            StoreError: the address makes no sense, or the file is missing or its folder cannot be made.
        """
        self.url = _parsed(url)
        self.engine = _sqlite(self.url, make) if self.is_sqlite else _postgresql(self.url)
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
    def read(self, *, patience_s: float | None = None) -> Iterator[Connection]:
        """Within the block, one view of the data, whatever others write meanwhile.

        Args:
            patience_s: how long a statement, and the time between two, may take. By itself both are short; a walk
                through much data takes longer, and holds up nobody.

        Raises:
            StoreError: the database cannot be reached, or refuses.
        """
        with _told(), self.engine.connect() as connection:
            if not self.is_sqlite:
                connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            with connection.begin(), self._with_patience(connection, patience_s):
                yield connection

    def sweep(self) -> bool:
        """Empty SQLite's write-ahead log, which holds what has been deleted; return whether it is empty now.

        Whoever reads meanwhile keeps it, and is hardly waited for, since all writers would wait as well. PostgreSQL
        does such work by itself, at its next VACUUM.

        Raises:
            StoreError: the database cannot be used.
        """
        if not self.is_sqlite:
            return True
        with _told(), self._turn, self.engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            driver.execute(f"PRAGMA busy_timeout = {_ms(SWEEP_S)}")
            try:
                busy = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            finally:
                driver.execute(f"PRAGMA busy_timeout = {_ms(WAIT_S)}")
        return not busy

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()

    def _with_patience(self, connection: Connection, seconds: float | None) -> AbstractContextManager[None]:
        if self.is_sqlite or seconds is None:
            return nullcontext()
        from safetylayers.oversee.store.patience import with_limit

        for name in ("statement_timeout", "idle_in_transaction_session_timeout"):
            connection.execute(text(f"SET LOCAL {name} = {_ms(seconds)}"))
        return with_limit(connection, seconds)


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


def _ms(seconds: float) -> int:
    return int(1000 * seconds)


def _sqlite(url: URL, make: bool) -> Engine:
    if url.database and url.database != ":memory:":
        _make_file(Path(url.database), make)
    engine = create_engine(
        url,
        hide_parameters=True,
        connect_args={"timeout": WAIT_S, "isolation_level": None, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        _log_ahead(connection)
        # secure_delete: what is erased is overwritten as well.
        for pragma in ("synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('begin', 'DEFERRED')}")

    return engine


def _log_ahead(connection: sqlite3.Connection) -> None:
    """Turn the write-ahead log on; where two do so to a new file at once, SQLite refuses one and does not wait."""
    until = time.monotonic() + WAIT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        time.sleep(0.01)


def _make_file(path: Path, make: bool) -> None:
    """Make an empty file for its owner alone, where there is none; SQLite would let everybody read it."""
    if not make and not path.exists():
        raise StoreError(f"{path}: there is no such database.", mend="See that the path is right.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"{path.parent}: the database's folder cannot be made ({error.strerror}).", mend="Choose another folder."
        ) from error
    with suppress(OSError):  # it is there already; or SQLite says what is wrong
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _postgresql(url: URL) -> Engine:
    from safetylayers.oversee.store import patience  # imports the driver, which SQLite does not need

    settings = {
        "statement_timeout": WAIT_S,
        "lock_timeout": WAIT_S,
        "idle_in_transaction_session_timeout": IDLE_S,
    }
    options = [f"{name}={_ms(seconds)}" for name, seconds in settings.items()]
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
            "tcp_user_timeout": _ms(WAIT_S),
        },
    )
    event.listen(engine, "do_connect", patience.connect)
    # Many rows go as one statement. psycopg's own way is a pipeline, in which none of the server's time-outs counts
    # between two statements: a replica that is cut off there would hold its locks for ever.
    engine.dialect.use_insertmanyvalues_wo_returning = True
    return engine


def ping(database: Database) -> None:
    """Raise StoreError unless the database answers."""
    with database.read() as connection:
        connection.execute(text("SELECT 1"))
