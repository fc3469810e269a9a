"""A replica knows the mode, and knows when it no longer knows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from sqlalchemy import Connection, text

from oversee.identity.house import House
from oversee.modes.keeping import Replica, eventually, keeping
from oversee.modes.proxy import behind_proxy
from safetylayers.errors import StoreError, UsageError
from safetylayers.oversee.audit.entry import Entry
from safetylayers.oversee.identity.principal import GATEWAY, MACHINE
from safetylayers.oversee.modes.change import begin, set_mode
from safetylayers.oversee.modes.heartbeat import Replica as Listed
from safetylayers.oversee.modes.heartbeat import list_replicas
from safetylayers.oversee.modes.keeper import ModeKeeper
from safetylayers.oversee.modes.mode import Mode, ModeState, read_mode
from safetylayers.oversee.store.database import Database

LEASE_S = 0.6
LATE_S = 0.5
"""What a busy machine may add."""


@pytest.fixture(autouse=True)
def _begun(house: House) -> None:
    begin(house.database, house.log, by=MACHINE)


@dataclass
class Outage:
    """A database, and ways to lose it and get it back."""

    database: Database
    begin: Callable[[], None]
    end: Callable[[], None]


@contextmanager
def locked_file(database: Database) -> Iterator[Outage]:
    """Somebody holds the file's lock."""
    with database.engine.connect() as connection:
        connection.execution_options(begin="EXCLUSIVE")
        yield Outage(database, lambda: connection.begin() and None, connection.rollback)


@contextmanager
def broken_network(database: Database, *, silent: bool) -> Iterator[Outage]:
    """Nothing comes through, and the one end is told of it or not."""
    with behind_proxy(database.url.render_as_string()) as (through, proxy):
        yield Outage(through, proxy.freeze if silent else proxy.cut, proxy.mend)


@pytest.fixture(params=["silent", "told"])
def outage(house: House, request: pytest.FixtureRequest) -> Iterator[Outage]:
    """Ways to lose the database: a locked file; a network that is silent, or breaks."""
    if house.database.is_sqlite and request.param == "told":
        pytest.skip("a file is lost in one way only")
    if house.database.is_sqlite:
        with locked_file(house.database) as found:
            yield found
    else:
        with broken_network(house.database, silent=request.param == "silent") as found:
            yield found


def stop(house: House, to: Mode = Mode.STOPPED) -> None:
    set_mode(house.database, house.log, to, by=GATEWAY, reason="to see")


def listed(house: House) -> list[Listed]:
    with house.database.read() as connection:
        return list_replicas(connection)


def test_before_it_has_read_anything_a_replica_is_stopped(house: House) -> None:
    keeper = ModeKeeper(house.database, replica="one", on_change=lambda _: None, running=lambda: 0)
    assert keeper.state.mode is Mode.STOPPED
    keeper.close()


def test_a_started_replica_knows_the_mode(house: House) -> None:
    with keeping(house.database) as (keeper, replica):
        assert keeper.state.mode is Mode.RUN
        eventually(lambda: replica.modes == ["run"], within=1)


def test_a_change_reaches_a_replica_long_before_its_next_heartbeat(house: House) -> None:
    with keeping(house.database, lease_s=40) as (keeper, replica):  # the next heartbeat is 10 s away
        eventually(lambda: replica.modes == ["run"], within=1)
        for to in (Mode.RESTRICTED, Mode.STOPPED):
            stop(house, to)
            assert eventually(lambda to=to: keeper.state.mode is to, within=5) < 0.5
        eventually(lambda: replica.modes == ["run", "restricted", "stopped"], within=0.5)


def test_a_lost_store_stops_a_replica_within_the_lease_and_found_again_lets_it_go_on(outage: Outage) -> None:
    with keeping(outage.database, lease_s=LEASE_S) as (keeper, replica):
        eventually(lambda: replica.modes == ["run"], within=1)
        outage.begin()
        assert eventually(lambda: keeper.state.mode is Mode.STOPPED, within=5) <= LEASE_S + LATE_S
        assert "cannot reach the store" in keeper.state.reason
        eventually(lambda: replica.modes == ["run", "stopped"], within=LATE_S)
        time.sleep(2 * LEASE_S)  # calls that hang are cut meanwhile
        assert keeper.state.mode is Mode.STOPPED
        outage.end()
        eventually(lambda: keeper.state.mode is Mode.RUN, within=5)
        eventually(lambda: replica.modes == ["run", "stopped", "run"], within=LATE_S)


def test_a_lease_counts_from_the_beginning_of_the_read(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    began: list[float] = []

    def read_once_and_slowly(connection: Connection) -> ModeState:
        if began:
            raise StoreError("away")
        began.append(time.monotonic())
        read = read_mode(connection)
        time.sleep(1.5)
        return read

    monkeypatch.setattr("safetylayers.oversee.modes.keeper.read_mode", read_once_and_slowly)
    with keeping(house.database, lease_s=3.0) as (keeper, _):
        assert keeper.state.mode is Mode.RUN
        eventually(lambda: keeper.state.mode is Mode.STOPPED, within=5)
        assert time.monotonic() - began[0] < 4.4  # from the read's end it would be 4.5 at least


def test_a_found_store_is_asked_what_the_mode_is(house: House, outage: Outage) -> None:
    with keeping(outage.database, lease_s=LEASE_S) as (keeper, _):
        outage.begin()
        eventually(lambda: keeper.state.mode is Mode.STOPPED, within=2)
        if not house.database.is_sqlite:
            stop(house, Mode.RESTRICTED)
        outage.end()
        expected = Mode.RUN if house.database.is_sqlite else Mode.RESTRICTED
        eventually(lambda: keeper.state.mode is expected, within=5)


def test_a_replica_does_not_notice_a_short_outage(outage: Outage) -> None:
    with keeping(outage.database, lease_s=1.2) as (keeper, replica):
        eventually(lambda: replica.modes == ["run"], within=1)
        outage.begin()
        time.sleep(0.2)
        outage.end()
        until = time.monotonic() + 1.3
        while time.monotonic() < until:
            assert keeper.state.mode is Mode.RUN
            time.sleep(0.01)
        assert replica.modes == ["run"]


def end_others(house: House) -> int:
    """Have the server end all other connections of the database's user; return how many there were."""
    others = "FROM pg_stat_activity WHERE usename = current_user AND pid <> pg_backend_pid()"
    with house.database.write() as connection:
        return len(connection.execute(text(f"SELECT pg_terminate_backend(pid) {others}")).all())


def test_a_connection_that_the_server_ends_is_made_anew(house: House) -> None:
    if house.database.is_sqlite:
        pytest.skip("a file has no connections that end")
    with keeping(house.database) as (keeper, replica):
        eventually(lambda: replica.modes == ["run"], within=1)
        eventually(lambda: end_others(house) > 0, within=5)
        time.sleep(0.6)
        stop(house)
        assert eventually(lambda: keeper.state.mode is Mode.STOPPED, within=5) < 0.5
        assert "cannot reach" not in keeper.state.reason


def test_a_call_that_hangs_for_ever_is_cut_and_made_anew(house: House) -> None:
    if house.database.is_sqlite:
        pytest.skip("no call to a file hangs for ever")
    with (
        behind_proxy(house.database.url.render_as_string()) as (through, proxy),
        keeping(through, lease_s=LEASE_S) as (keeper, replica),
    ):
        eventually(lambda: replica.modes == ["run"], within=1)
        proxy.strand()
        eventually(lambda: keeper.state.mode is Mode.STOPPED, within=2)
        eventually(lambda: keeper.state.mode is Mode.RUN, within=3)


def test_who_changes_the_mode_here_can_wake_the_keeper(house: House) -> None:
    with keeping(house.database, lease_s=40) as (keeper, replica):
        eventually(lambda: replica.modes == ["run"], within=1)
        stop(house)
        keeper.wake()
        assert eventually(lambda: keeper.state.mode is Mode.STOPPED, within=1) < LATE_S


def test_a_stop_is_obeyed_while_others_keep_the_store_from_being_written(house: House) -> None:
    if not house.database.is_sqlite:
        pytest.skip("other writers are in nobody's way on PostgreSQL")
    with keeping(house.database, lease_s=4.0) as (keeper, replica):
        eventually(lambda: replica.modes == ["run"], within=1)
        stop(house)
        with house.database.write():
            assert eventually(lambda: keeper.state.mode is Mode.STOPPED, within=3) < 0.5


def test_others_see_what_a_replica_says(house: House) -> None:
    with keeping(house.database, Replica(running=3), name="left", lease_s=LEASE_S):
        eventually(lambda: [(it.name, it.epoch) for it in listed(house)] == [("left", 1)], within=2)
        (seen,) = listed(house)
        assert (seen.running, seen.state, seen.lease_s, seen.alive) == (3, Mode.RUN, LEASE_S, True)


def test_a_closed_replica_is_stopped_and_off_the_list(house: House) -> None:
    with keeping(house.database, Replica(running=2)) as (keeper, replica):
        eventually(lambda: replica.modes == ["run"], within=1)
    assert keeper.state.mode is Mode.STOPPED
    assert replica.modes == ["run", "stopped"]
    assert listed(house) == []


def test_a_closed_replica_with_replies_stays_on_the_list(house: House) -> None:
    with keeping(house.database, Replica(running=2, halting=False)):
        eventually(lambda: len(listed(house)) == 1, within=1)
    assert len(listed(house)) == 1


def test_a_replica_closes_while_the_store_is_lost(outage: Outage) -> None:
    began = 0.0
    with keeping(outage.database, lease_s=LEASE_S) as (keeper, _):
        outage.begin()
        time.sleep(LEASE_S)
        began = time.monotonic()
    assert time.monotonic() - began < 4
    assert keeper.state.mode is Mode.STOPPED
    outage.end()
    for thread in threading.enumerate():
        if thread.name.startswith("mode-"):
            thread.join(10)


def test_a_stop_is_confirmed_when_it_is_obeyed_and_not_before(house: House) -> None:
    with keeping(house.database, Replica(running=2, faults=0)) as (keeper, replica):
        eventually(lambda: [it.epoch for it in listed(house)] == [1], within=1)
        replica.faults = 3
        stop(house)
        eventually(lambda: keeper.state.mode is Mode.STOPPED, within=1)
        eventually(lambda: replica.modes == ["run", "stopped"], within=2)  # tried until it works
        eventually(lambda: [(it.epoch, it.running) for it in listed(house)] == [(2, 0)], within=1)


def test_a_store_that_forgets_a_stop_stops_the_replica(house: House) -> None:
    with keeping(house.database, lease_s=LEASE_S) as (keeper, replica):
        stop(house, Mode.RESTRICTED)
        eventually(lambda: replica.modes[-1:] == ["restricted"], within=1)
        with house.database.write() as connection:
            connection.execute(text("UPDATE mode SET mode = 'run', epoch = 1"))
        eventually(lambda: keeper.state.mode is Mode.STOPPED, within=2)
        time.sleep(LEASE_S)
        assert "run" not in replica.modes[1:]


def test_many_writers_do_not_cost_a_replica_its_lease(house: House) -> None:
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            with house.database.write() as connection:
                house.log.append_in(connection, [Entry(kind="busy", actor="test")])

    with keeping(house.database, lease_s=0.8) as (_, replica):
        eventually(lambda: replica.modes == ["run"], within=1)
        writers = [threading.Thread(target=write) for _ in range(6)]
        for writer in writers:
            writer.start()
        time.sleep(1.5)
        done.set()
        for writer in writers:
            writer.join()
        assert replica.modes == ["run"]


def test_looking_at_the_state_is_cheap(house: House) -> None:
    with keeping(house.database) as (keeper, _):
        began = time.perf_counter()
        for _ in range(10_000):
            assert keeper.state.mode is Mode.RUN
        assert time.perf_counter() - began < 0.5


def test_a_lease_that_cannot_be_renewed_in_time_is_refused(house: House) -> None:
    with pytest.raises(UsageError):
        ModeKeeper(house.database, replica="one", on_change=lambda _: None, running=lambda: 0, lease_s=0.1)


@pytest.mark.parametrize("name", ["", "a" * 201, "a\0b"])
def test_an_odd_name_of_a_replica_is_refused(house: House, name: str) -> None:
    with pytest.raises(UsageError):
        ModeKeeper(house.database, replica=name, on_change=lambda _: None, running=lambda: 0)
