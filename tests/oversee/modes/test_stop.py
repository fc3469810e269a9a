"""A stop comes back when every replica is known to be stopped, and says how that is known."""

from __future__ import annotations

import contextlib
import threading
from datetime import UTC, datetime, timedelta

import pytest

from oversee.identity.house import House
from oversee.modes.keeping import Replica, eventually, keeping
from oversee.modes.proxy import behind_proxy
from safetylayers.errors import AccessError, StoreError
from safetylayers.oversee.identity.principal import MACHINE, Principal
from safetylayers.oversee.modes import heartbeat
from safetylayers.oversee.modes import stop as module
from safetylayers.oversee.modes.change import begin
from safetylayers.oversee.modes.heartbeat import Pulse, beat, list_replicas, retire
from safetylayers.oversee.modes.mode import Mode, read_mode
from safetylayers.oversee.modes.stop import StopReport, stop_everything
from safetylayers.oversee.modes.tables import replicas
from safetylayers.oversee.store.database import Database


@pytest.fixture
def ada(house: House) -> Principal:
    begin(house.database, house.log, by=MACHINE)
    return house.principal("ada", "operator")


def stop(house: House, by: Principal) -> StopReport:
    return stop_everything(house.database, house.log, by=by, reason="to see")


def silent_replica(house: House, *, lease_s: float) -> None:
    """A replica that was just heard of and is not heard of again."""
    pulse = Pulse(id="silent", name="silent", lease_s=lease_s, epoch=1, running=1, state=Mode.RUN)
    with house.database.write() as connection:
        beat(connection, pulse)


def ways(report: StopReport) -> dict[str, str]:
    return {replica.name: replica.how for replica in report.replicas}


def test_three_replicas_confirm_a_stop(house: House, ada: Principal) -> None:
    with contextlib.ExitStack() as stack:
        kept = [
            stack.enter_context(keeping(house.database, Replica(running=number), name=f"replica {number}"))
            for number in range(3)
        ]
        report = stop(house, ada)
        assert [keeper.state.mode for keeper, _ in kept] == [Mode.STOPPED] * 3
        assert [replica.running for _, replica in kept] == [0] * 3
    assert ways(report) == {f"replica {number}": "confirmed" for number in range(3)}
    assert report.epoch == 2
    assert 0 < max(replica.after_ms for replica in report.replicas) == report.took_ms < 1000
    assert report.logged
    (entry,) = house.logged("stop-measured")
    assert entry.facts["epoch"] == 2
    assert len(entry.facts["replicas"]) == 3  # type: ignore[arg-type]


def test_a_silent_replica_is_stopped_when_its_own_lease_is_over(house: House, ada: Principal) -> None:
    silent_replica(house, lease_s=1.0)
    with keeping(house.database, name="loud", lease_s=8.0):
        report = stop(house, ada)
    assert ways(report) == {"silent": "lease", "loud": "confirmed"}
    assert 1000 <= report.took_ms < 2000
    after = {replica.name: replica.after_ms for replica in report.replicas}
    assert after["loud"] < 1000


def test_a_replica_behind_a_dead_network_has_stopped_when_the_stop_says_so(house: House, ada: Principal) -> None:
    if house.database.is_sqlite:
        pytest.skip("there is no network to a file")
    with (
        behind_proxy(house.database.url.render_as_string()) as (through, proxy),
        keeping(through, Replica(running=1), name="far", lease_s=1.0) as (keeper, replica),
    ):
        eventually(lambda: replica.modes == ["run"], within=2)
        proxy.freeze()
        report = stop(house, ada)
        assert keeper.state.mode is Mode.STOPPED
        assert replica.running == 0
        proxy.mend()
    assert ways(report) == {"far": "lease"}


def test_a_replica_that_goes_on_replying_confirms_nothing(house: House, ada: Principal) -> None:
    with keeping(house.database, Replica(running=2, halting=False), name="stubborn", lease_s=0.6) as (_, replica):
        report = stop(house, ada)
        assert [(it.how, it.running) for it in report.replicas] == [("lease", 2)]
        replica.running = 0


def test_a_reply_that_ends_late_delays_the_confirmation(house: House, ada: Principal) -> None:
    with keeping(house.database, Replica(running=1, halting=False), name="slow", lease_s=4.0) as (_, replica):
        threading.Timer(0.4, lambda: setattr(replica, "running", 0)).start()
        report = stop(house, ada)
    assert [it.how for it in report.replicas] == ["confirmed"]
    assert 350 < report.took_ms < 1500


def test_a_replica_that_is_closed_meanwhile_is_stopped(house: House, ada: Principal) -> None:
    silent_replica(house, lease_s=8.0)

    def leave() -> None:
        with house.database.write() as connection:
            retire(connection, "silent")

    threading.Timer(0.3, leave).start()
    report = stop(house, ada)
    assert ways(report) == {"silent": "closed"}
    assert 250 < report.took_ms < 2000


def test_the_long_dead_are_not_waited_for(house: House, ada: Principal) -> None:
    silent_replica(house, lease_s=0.5)
    with house.database.write() as connection:
        connection.execute(replicas.update().values(seen=datetime.now(UTC) - timedelta(seconds=5)))
    with house.database.read() as connection:
        assert [replica.alive for replica in list_replicas(connection)] == [False]
    report = stop(house, ada)
    assert report.replicas == ()
    assert report.took_ms < 1000


def test_a_second_stop_is_a_stop(house: House, ada: Principal) -> None:
    with keeping(house.database):
        first, second = stop(house, ada), stop(house, ada)
    assert (first.epoch, second.epoch) == (2, 3)
    assert [it.how for it in second.replicas] == ["confirmed"]


def test_without_the_right_nothing_stops(house: House, ada: Principal) -> None:
    with pytest.raises(AccessError):
        stop(house, house.principal("eve", "caller"))
    with house.database.read() as connection:
        assert read_mode(connection).mode is Mode.RUN
    assert ada


def test_a_measurement_that_cannot_be_logged_does_not_fail_the_stop(
    house: House, ada: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = house.log.append_in

    def only_the_stop(connection: object, entries: list[object]) -> list[int]:
        if entries[0].kind == "stop-measured":  # type: ignore[attr-defined]
            raise StoreError("no room")
        return append(connection, entries)  # type: ignore[arg-type]

    monkeypatch.setattr(house.log, "append_in", only_the_stop)
    report = stop(house, ada)
    assert not report.logged
    assert len(house.logged("mode-changed")) == 2


def test_a_stop_whose_replicas_cannot_be_listed_says_that_it_is_in_force(
    house: House, ada: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(database: object) -> dict[str, object]:
        raise StoreError("no answer")

    monkeypatch.setattr(module, "_PATIENCE_S", 0.1)
    monkeypatch.setattr(module, "_listed", fails)
    with pytest.raises(StoreError, match="is stopped"):
        stop(house, ada)
    assert len(house.logged("mode-changed")) == 2


def test_a_store_that_falters_once_the_stop_is_in_it_is_asked_again(
    house: House, ada: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, fails = module._listed, [StoreError("no answer")] * 3

    def falters(database: Database) -> dict[str, heartbeat.Replica]:
        if fails:
            raise fails.pop()
        return listed(database)

    silent_replica(house, lease_s=0.5)
    monkeypatch.setattr(module, "_listed", falters)
    assert ways(stop(house, ada)) == {"silent": "lease"}
