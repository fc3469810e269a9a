"""The database keeps all of a transaction or nothing, and tells users what is wrong."""

from __future__ import annotations

import secrets
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, select, text

from safetylayers.errors import StoreError
from safetylayers.oversee.store.database import IDLE_S, Database, after_commit, ping

COUNTER = Table("counter", MetaData(), Column("value", Integer, nullable=False))


@pytest.fixture
def counter(database: Database) -> Iterator[Database]:
    """A database with one counter at zero."""
    COUNTER.create(database.engine)
    with database.write() as connection:
        connection.execute(COUNTER.insert().values(value=0))
    yield database
    COUNTER.drop(database.engine)


def value(database: Database) -> int:
    """The counter's value."""
    with database.read() as connection:
        return connection.execute(select(COUNTER.c.value)).scalar_one()


def test_an_open_database_answers(database: Database) -> None:
    ping(database)


def test_what_fails_half_way_leaves_nothing(counter: Database) -> None:
    def fail() -> None:
        with counter.write() as connection:
            connection.execute(COUNTER.update().values(value=1))
            _ = 1 / 0

    with pytest.raises(ZeroDivisionError):
        fail()
    assert value(counter) == 0


def test_writers_wait_for_each_other(counter: Database) -> None:
    def count() -> None:
        for _ in range(25):
            with counter.write() as connection:
                seen = connection.execute(select(COUNTER.c.value).with_for_update()).scalar_one()
                connection.execute(COUNTER.update().values(value=seen + 1))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value(counter) == 100


def test_a_reader_sees_one_state(counter: Database) -> None:
    with counter.read() as reading:
        before = reading.execute(select(COUNTER.c.value)).scalar_one()
        with counter.write() as writing:
            writing.execute(COUNTER.update().values(value=1))
        assert reading.execute(select(COUNTER.c.value)).scalar_one() == before
    assert value(counter) == 1


def test_a_reader_cannot_write(counter: Database) -> None:
    if counter.is_sqlite:
        pytest.skip("SQLite has no such transactions")
    with pytest.raises(StoreError, match="read-only"), counter.read() as connection:
        connection.execute(COUNTER.update().values(value=1))


def test_errors_do_not_show_what_was_written(counter: Database) -> None:
    prompt = secrets.token_hex()
    with pytest.raises(StoreError) as caught, counter.write() as connection:
        connection.execute(text("INSERT INTO nothing VALUES (:prompt)"), {"prompt": prompt})
    assert prompt not in "".join(traceback.format_exception(caught.value))


def test_what_follows_a_commit_happens_once_and_only_after_one(counter: Database) -> None:
    done: list[int] = []

    def fail() -> None:
        with counter.write() as connection:
            after_commit(connection, lambda: done.append(0))
            _ = 1 / 0

    with pytest.raises(ZeroDivisionError):
        fail()
    with counter.write() as connection:
        after_commit(connection, lambda: done.append(value(counter)))
        connection.execute(COUNTER.update().values(value=1))
        assert done == []
    with counter.write():
        pass
    assert done == [1]


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    opened = Database(f"sqlite:///{tmp_path / 'new' / 'file.sqlite'}")
    ping(opened)
    opened.close()


def test_a_file_is_made_for_its_owner_alone_and_only_where_that_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.sqlite"
    with pytest.raises(StoreError, match="no such database"):
        Database(f"sqlite:///{path}", make=False)
    assert not path.parent.exists()
    opened = Database(f"sqlite:///{path}")
    with opened.write() as connection:
        connection.execute(text("CREATE TABLE x (y INTEGER)"))
    assert {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == dict.fromkeys(
        ("file.sqlite", "file.sqlite-wal", "file.sqlite-shm"), 0o600
    )
    opened.close()


def test_several_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    for number in range(20):
        url = f"sqlite:///{tmp_path / str(number)}.db"
        opened = [Database(url) for _ in range(4)]
        together = threading.Barrier(len(opened))

        def open_it(database: Database, together: threading.Barrier = together) -> int:
            together.wait()
            with database.read() as connection:
                return int(connection.execute(text("SELECT 1")).scalar_one())

        with ThreadPoolExecutor(len(opened)) as pool:
            assert list(pool.map(open_it, opened)) == [1] * len(opened)
        for database in opened:
            database.close()


def test_a_patient_read_outlasts_a_pause(counter: Database) -> None:
    with counter.read(patience_s=10) as connection:
        connection.execute(select(COUNTER.c.value)).scalar_one()
        time.sleep(IDLE_S + 0.3)
        assert connection.execute(select(COUNTER.c.value)).scalar_one() == 0
    if not counter.is_sqlite:  # the next one is as impatient as before
        with counter.read() as connection:
            assert connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar_one() == "1s"


def test_what_was_deleted_is_swept_out_of_the_files_unless_somebody_reads(counter: Database) -> None:
    if not counter.is_sqlite:
        assert counter.sweep()
        return
    ahead = Path(f"{counter.url.database}-wal")
    with counter.read() as connection:
        connection.execute(select(COUNTER.c.value)).scalar_one()
        assert not counter.sweep()
    assert ahead.stat().st_size > 0
    assert counter.sweep()
    assert ahead.stat().st_size == 0


def test_what_is_no_database_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"something else" * 100)
    opened = Database(f"sqlite:///{tmp_path / 'file'}")
    with pytest.raises(StoreError, match="not a database"):
        ping(opened)
    opened.close()
    with pytest.raises(StoreError, match="cannot be made"):
        Database(f"sqlite:///{tmp_path / 'file' / 'database.sqlite'}")


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://host/name"])
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(StoreError):
        Database(url)


def test_a_server_that_does_not_answer_is_named_as_such(tmp_path: Path) -> None:
    opened = Database(f"postgresql://nobody@/nothing?host={tmp_path}")
    with pytest.raises(StoreError, match="does not do what it is asked"):
        ping(opened)
    opened.close()
