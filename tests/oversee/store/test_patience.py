"""A server that acknowledges and never answers is given up, and migrations may take their time."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from sqlalchemy import text

from oversee.modes.proxy import behind_proxy
from safetylayers.errors import StoreError
from safetylayers.oversee.store import patience
from safetylayers.oversee.store.database import Database, ping
from safetylayers.oversee.store.patience import without_limit


def _write_while(database: Database, happens: Callable[[], None]) -> None:
    with database.write() as connection:
        connection.execute(text("SELECT 1"))
        happens()
        connection.execute(text("SELECT 1"))


def test_a_connection_that_never_answers_is_given_up_and_the_next_one_works(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "ANSWER_S", 0.5)
    with behind_proxy(postgresql_url) as (database, proxy):
        begun = time.monotonic()
        with pytest.raises(StoreError):
            _write_while(database, proxy.strand)
        assert time.monotonic() - begun < 3
        ping(database)


def test_a_pooled_connection_that_fell_silent_is_replaced(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "ANSWER_S", 0.5)
    with behind_proxy(postgresql_url) as (database, proxy):
        ping(database)
        proxy.strand()
        ping(database)


def test_work_that_may_take_long_is_waited_for(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "ANSWER_S", 0.2)
    slow = text("SELECT pg_sleep(0.6)")
    with behind_proxy(postgresql_url) as (database, _):
        with database.read() as connection, without_limit(connection):
            connection.execute(slow)
        with pytest.raises(StoreError), database.read() as connection:
            connection.execute(slow)
