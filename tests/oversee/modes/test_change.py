"""One person makes things safer; it takes two to make them less safe."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from oversee.identity.house import House
from safetylayers.errors import AccessError, ModeError
from safetylayers.oversee.identity.principal import GATEWAY, MACHINE, Principal
from safetylayers.oversee.identity.proposals import Kind, Proposals
from safetylayers.oversee.modes.change import approve_mode, begin, propose_mode, set_mode
from safetylayers.oversee.modes.mode import Mode, ModeState, read_mode


@pytest.fixture
def proposals(house: House) -> Proposals:
    return Proposals(house.database, house.log, clock=house.clock)


@pytest.fixture
def ada(house: House) -> Principal:
    return house.principal("ada", "operator")


@pytest.fixture
def bob(house: House) -> Principal:
    return house.principal("bob", "operator")


def mode(house: House) -> ModeState:
    with house.database.read() as connection:
        return read_mode(connection)


def change(house: House, to: Mode, by: Principal) -> ModeState:
    return set_mode(house.database, house.log, to, by=by, reason="to see", clock=house.clock)


def test_without_a_mode_the_gateway_is_stopped(house: House) -> None:
    assert (mode(house).mode, mode(house).epoch) == (Mode.STOPPED, 0)


def test_a_new_gateway_runs_and_a_stopped_one_stays_stopped(house: House, ada: Principal) -> None:
    assert begin(house.database, house.log, by=MACHINE).mode is Mode.RUN
    change(house, Mode.STOPPED, ada)
    assert begin(house.database, house.log, by=MACHINE).mode is Mode.STOPPED
    with pytest.raises(AccessError):
        begin(house.database, house.log, by=ada)


def test_of_replicas_that_begin_at_once_one_sets_the_mode(house: House) -> None:
    with ThreadPoolExecutor(6) as pool:
        states = list(pool.map(lambda _: begin(house.database, house.log, by=MACHINE), range(6)))
    assert {state.epoch for state in states} == {1}
    assert len(house.logged("mode-changed")) == 1


def test_one_person_makes_it_safer(house: House, ada: Principal) -> None:
    begin(house.database, house.log, by=MACHINE)
    for epoch, to in enumerate((Mode.RESTRICTED, Mode.STOPPED, Mode.STOPPED), start=2):
        state = change(house, to, ada)
        assert state == mode(house)
        assert (state.mode, state.epoch, state.by, state.reason) == (to, epoch, "ada", "to see")
        assert state.since == house.clock()
    entry = house.logged("mode-changed")[1]
    assert entry.facts == {"from": "run", "to": "restricted", "epoch": 2, "proposal": None}
    assert (entry.actor, entry.payload) == (ada.actor, {"reason": "to see"})


def test_the_gateway_can_restrict_itself(house: House) -> None:
    begin(house.database, house.log, by=MACHINE)
    assert change(house, Mode.RESTRICTED, GATEWAY).by == "the gateway"


@pytest.mark.parametrize("to", [Mode.RUN, Mode.RESTRICTED])
def test_one_person_does_not_make_it_less_safe(house: House, ada: Principal, to: Mode) -> None:
    begin(house.database, house.log, by=MACHINE)
    change(house, Mode.STOPPED, ada)
    with pytest.raises(ModeError, match="One person"):
        change(house, to, ada)
    assert mode(house).mode is Mode.STOPPED


def test_only_who_may_stop_stops(house: House) -> None:
    begin(house.database, house.log, by=MACHINE)
    for role in ("caller", "reviewer", "auditor", "admin"):
        with pytest.raises(AccessError, match="stop"):
            change(house, Mode.STOPPED, house.principal(role, role))
    assert mode(house).epoch == 1


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        (" ", "no reason was given"),
        ("it\u3000tells\u00a0too \u202fmuch \U0001f468\u200d\U0001f469", "it tells too  much \U0001f468 \U0001f469"),
        ("a" * 5000, "a" * 2000),
        ("\x1b[31mred", "[31mred"),
    ],
)
def test_nobody_is_kept_from_a_stop_by_how_its_reason_is_typed(
    house: House, ada: Principal, typed: str, kept: str
) -> None:
    assert set_mode(house.database, house.log, Mode.STOPPED, by=ada, reason=typed).reason == kept


def test_a_gateway_whose_mode_was_lost_stays_shut_when_it_starts_again(
    house: House, proposals: Proposals, ada: Principal, bob: Principal
) -> None:
    begin(house.database, house.log, by=MACHINE)
    change(house, Mode.STOPPED, ada)
    with house.database.write() as connection:
        connection.execute(text("DELETE FROM mode"))
    assert begin(house.database, house.log, by=MACHINE).mode is Mode.STOPPED
    proposal = propose_mode(proposals, house.database, Mode.RUN, by=ada, reason="it was looked into")
    approve_mode(proposals, house.log, proposal.id, by=bob, clock=house.clock)
    assert mode(house).mode is Mode.RUN


def test_two_people_resume(house: House, proposals: Proposals, ada: Principal, bob: Principal) -> None:
    begin(house.database, house.log, by=MACHINE)
    change(house, Mode.STOPPED, ada)
    proposal = propose_mode(proposals, house.database, Mode.RUN, by=ada, reason="it is mended")
    assert mode(house).mode is Mode.STOPPED
    with pytest.raises(AccessError, match="their own"):
        approve_mode(proposals, house.log, proposal.id, by=ada)
    approve_mode(proposals, house.log, proposal.id, by=bob, clock=house.clock)
    assert (mode(house).mode, mode(house).by, mode(house).reason) == (Mode.RUN, "bob", "it is mended")
    assert house.logged("mode-changed")[-1].facts["proposal"] == proposal.id


def test_an_approval_lifts_no_later_stop(house: House, proposals: Proposals, ada: Principal, bob: Principal) -> None:
    begin(house.database, house.log, by=MACHINE)
    change(house, Mode.STOPPED, ada)
    proposal = propose_mode(proposals, house.database, Mode.RUN, by=ada, reason="it is mended")
    change(house, Mode.STOPPED, bob)
    with pytest.raises(ModeError, match="changed since"):
        approve_mode(proposals, house.log, proposal.id, by=bob)
    assert mode(house).mode is Mode.STOPPED
    assert proposals.open_ones() == [proposal]


def test_another_kind_of_proposal_changes_no_mode(house: House, proposals: Proposals, ada: Principal) -> None:
    begin(house.database, house.log, by=MACHINE)
    admins = [house.principal(name, "admin", "operator") for name in ("carl", "dora")]
    change(house, Mode.STOPPED, ada)
    policy = proposals.propose(Kind.POLICY, {"mode": "run", "epoch": 2}, reason="trick", by=admins[0])
    with pytest.raises(ModeError, match="not about the mode"):
        approve_mode(proposals, house.log, policy.id, by=admins[1])
    assert mode(house).mode is Mode.STOPPED


def test_what_is_safer_needs_no_proposal(house: House, proposals: Proposals, ada: Principal) -> None:
    begin(house.database, house.log, by=MACHINE)
    with pytest.raises(ModeError, match="no approval"):
        propose_mode(proposals, house.database, Mode.STOPPED, by=ada, reason="to see")


def test_a_change_that_cannot_be_logged_is_not_made(
    house: House, ada: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no room")

    begin(house.database, house.log, by=MACHINE)
    monkeypatch.setattr(house.log, "append_in", fail)
    with pytest.raises(OSError, match="no room"):
        change(house, Mode.RESTRICTED, ada)
    assert mode(house).mode is Mode.RUN


def test_stops_and_approvals_at_once_neither_deadlock_nor_get_lost(
    house: House, proposals: Proposals, ada: Principal, bob: Principal
) -> None:
    begin(house.database, house.log, by=MACHINE)
    for _ in range(5):
        change(house, Mode.STOPPED, ada)
        proposal = propose_mode(proposals, house.database, Mode.RUN, by=ada, reason="it is mended")
        with ThreadPoolExecutor(2) as pool:
            stop = pool.submit(change, house, Mode.STOPPED, ada)
            resume = pool.submit(approve_mode, proposals, house.log, proposal.id, by=bob)
        stop.result()
        assert isinstance(resume.exception(), ModeError | None)
        if resume.exception():
            proposals.withdraw(proposal.id, by=ada)
        assert mode(house).mode is Mode.STOPPED  # whichever came first, the stop holds
    epochs = [entry.facts["epoch"] for entry in house.logged("mode-changed")]
    assert epochs == list(range(1, mode(house).epoch + 1))
