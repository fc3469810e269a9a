"""The tables' versions: makes a new database's tables, and brings an older one's up to date.

Each version is a file in `migrations/versions`. A new one is drafted from what the rooms' `tables.py` say by
`python tests/oversee/store/draft_migration.py WHAT-CHANGES`, and then read and mended by its author.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from safetylayers.errors import StoreError
from safetylayers.oversee.store.database import Database

_LOCK = 0x5AFE_1A7E
"""Under which PostgreSQL knows that somebody upgrades: any number that nobody else uses."""


def upgrade(database: Database) -> None:
    """Make the tables, or bring them up to date; all of it is done or nothing. Several replicas may do so at once.

    Raises:
        StoreError: the database belongs to a newer version, or cannot be changed.
    """
    with database.write() as connection, _no_hurry(database, connection):
        if not database.is_sqlite:  # SQLite's writers wait for each other as it is
            connection.execute(text("SET LOCAL lock_timeout = 0"))
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            # On a busy machine a second can pass between two statements of a migration.
            connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = '60s'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        _refuse_newer(connection)
        command.upgrade(config(connection), "head")


def is_made(database: Database) -> bool:
    """Return whether the tables are there, of whatever version. Raises StoreError."""
    with database.read() as connection:
        return bool(MigrationContext.configure(connection).get_current_heads())


def _no_hurry(database: Database, connection: Connection) -> AbstractContextManager[None]:
    if database.is_sqlite:
        return nullcontext()
    from safetylayers.oversee.store.patience import without_limit

    return without_limit(connection)


def config(connection: Connection) -> Config:
    """Return alembic's settings, for work on an open connection."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    made.set_main_option("path_separator", "newline")
    made.attributes["connection"] = connection
    return made


def _refuse_newer(connection: Connection) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(config(connection)).walk_revisions()}
    unknown = set(MigrationContext.configure(connection).get_current_heads()) - known
    if unknown:
        raise StoreError(
            f"The database is of a version ({', '.join(sorted(unknown))}) that this program does not know.",
            mend="Run the version of safetylayers that made it, or a newer one.",
        )
