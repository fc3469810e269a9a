"""Real databases: a SQLite file, and a PostgreSQL server that lives as long as the tests run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from oversee.postgresql import MissingError, Server, postgresql
from safetylayers.oversee.store.database import Database, metadata


@pytest.fixture(scope="session")
def _postgresql() -> Iterator[Server]:
    try:
        with postgresql() as server:
            yield server
    except MissingError as error:
        pytest.skip(str(error))


@pytest.fixture
def postgresql_url(_postgresql: Server) -> Iterator[str]:
    """The address of a PostgreSQL database without tables."""
    name = _postgresql.new()
    yield _postgresql.url(name)
    _postgresql.drop(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'database.sqlite'}"
    url: str = request.getfixturevalue("postgresql_url")
    return url


@pytest.fixture
def database(empty_url: str) -> Iterator[Database]:
    """An open database with all tables that the test's imports have defined, and nothing in them."""
    opened = Database(empty_url)
    with opened.engine.begin() as connection:
        if not opened.is_sqlite:  # as migrations do: on a busy machine a second can pass between two statements
            connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = '60s'"))
        metadata.create_all(connection)
    yield opened
    opened.close()
