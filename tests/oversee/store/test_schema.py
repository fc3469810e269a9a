"""Migrations make exactly the tables that the rooms speak of, once, whoever else starts at the same time."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

from oversee.store.draft_migration import import_all_tables
from safetylayers.errors import StoreError
from safetylayers.oversee.store.database import Database, metadata
from safetylayers.oversee.store.schema import upgrade

import_all_tables()

CATALOGUE = """
SELECT table_name || ' ' || column_name || ' ' || data_type || ' ' || is_nullable || ' '
       || coalesce(character_maximum_length, 0) || ' ' || coalesce(column_default, '')
FROM information_schema.columns WHERE table_schema = current_schema()
UNION ALL SELECT replace(indexdef, schemaname || '.', '') FROM pg_indexes WHERE schemaname = current_schema()
UNION ALL SELECT conrelid::regclass || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = current_schema()::regnamespace
"""
"""All that PostgreSQL knows of the tables."""


@pytest.fixture
def empty(empty_url: str) -> Iterator[Database]:
    """An open database without tables."""
    opened = Database(empty_url)
    yield opened
    opened.close()


def described(database: Database) -> list[str]:
    """What the database says of its tables, in an order that does not depend on how they were made."""
    query = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL" if database.is_sqlite else CATALOGUE
    with database.read() as connection:
        found = connection.execute(text(query)).scalars().all()
    sets_of_parts = [" ".join(sorted(re.split(r"[\s,]*[\n,]\s*", line))) for line in found]
    return sorted(line for line in sets_of_parts if "alembic_version" not in line)


def test_migrations_make_what_the_rooms_speak_of(empty: Database) -> None:
    metadata.create_all(empty.engine)
    wanted = described(empty)
    metadata.drop_all(empty.engine)
    assert described(empty) == []
    upgrade(empty)
    assert described(empty) == wanted
    with empty.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_a_second_upgrade_changes_nothing(empty: Database) -> None:
    upgrade(empty)
    with empty.write() as connection:
        connection.execute(text("INSERT INTO checkpoints (size, note) VALUES (1, 'kept')"))
    upgrade(empty)
    with empty.read() as connection:
        assert connection.execute(text("SELECT note FROM checkpoints")).scalars().all() == ["kept"]


def test_a_newer_database_is_refused(empty: Database) -> None:
    upgrade(empty)
    with empty.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match="9999"):
        upgrade(empty)


def test_what_fails_leaves_nothing(empty: Database) -> None:
    with empty.write() as connection:
        connection.execute(text("CREATE TABLE log_keys (mine INTEGER)"))
    with pytest.raises(StoreError, match="already exists"):
        upgrade(empty)
    assert inspect(empty.engine).get_table_names() == ["log_keys"]


def test_replicas_that_start_at_once_wait_for_each_other(empty: Database) -> None:
    program = (
        "import sys; from safetylayers.oversee.store.database import Database;"
        "from safetylayers.oversee.store.schema import upgrade; upgrade(Database(sys.argv[1]))"
    )
    url = empty.url.render_as_string(hide_password=False)
    processes = [subprocess.Popen([sys.executable, "-c", program, url]) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert "checkpoints" in inspect(empty.engine).get_table_names()
