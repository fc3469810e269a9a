"""Requests wait for a person on this replica or another one."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from oversee.identity.house import House
from safetylayers.errors import AuditError, StoreError
from safetylayers.oversee.audit.vault import Vault, new_key
from safetylayers.oversee.identity.principal import Principal
from safetylayers.oversee.review.held import Held, Outcome, State, Texts
from safetylayers.oversee.review.queue import ReviewDesk

VAULT = Vault(new_key())


@pytest.fixture
def caller(house: House) -> Principal:
    return replace(house.principal("carl", "caller"), id="key-1")


@pytest.fixture
def rita(house: House) -> Principal:
    return house.principal("rita", "reviewer")


def desk_of(house: House, poll_s: float = 0.25) -> ReviewDesk:
    return ReviewDesk(house.database, house.log, VAULT, poll_s=poll_s)


async def hold(desk: ReviewDesk, caller: Principal, seconds: float = 30, reply: str = "the reply") -> Held:
    return await desk.hold(
        Texts("the prompt", reply),
        request="request-1",
        conversation=None,
        asker=caller,
        findings=[],
        wait=timedelta(seconds=seconds),
    )


def test_a_decision_here_is_known_at_once(house: House, caller: Principal, rita: Principal) -> None:
    async def run() -> tuple[Outcome, float]:
        desk = desk_of(house, poll_s=20)
        held = await hold(desk, caller)
        waiting = asyncio.create_task(desk.wait(held))
        await asyncio.sleep(0.1)
        began = time.monotonic()
        await desk.decide(held.id, State.EDITED, by=rita, reason="better", text="another reply")
        return await waiting, time.monotonic() - began

    outcome, seconds = asyncio.run(run())
    assert (outcome.state, outcome.text) == (State.EDITED, "another reply")
    assert seconds < 1


def test_a_decision_on_another_replica_is_known_soon(house: House, caller: Principal, rita: Principal) -> None:
    async def run() -> tuple[Outcome, float]:
        here, there = desk_of(house, poll_s=0.1), desk_of(house)
        held = await hold(here, caller)
        waiting = asyncio.create_task(here.wait(held))
        await asyncio.sleep(0.2)
        began = time.monotonic()
        await there.decide(held.id, State.RELEASED, by=rita)
        return await waiting, time.monotonic() - began

    outcome, seconds = asyncio.run(run())
    assert (outcome.state, outcome.text) == (State.RELEASED, "the reply")
    assert seconds < 1


def test_each_request_gets_its_own_outcome(house: House, caller: Principal, rita: Principal) -> None:
    async def run() -> list[Outcome]:
        desk = desk_of(house)
        held = [await hold(desk, caller, reply=str(number)) for number in range(5)]
        waiting = [asyncio.create_task(desk.wait(one)) for one in held]
        for one in reversed(held):
            await desk.decide(one.id, State.RELEASED, by=rita)
        return await asyncio.gather(*waiting)

    assert [outcome.text for outcome in asyncio.run(run())] == ["0", "1", "2", "3", "4"]


def test_without_a_decision_nothing_leaves(house: House, caller: Principal) -> None:
    async def run() -> Outcome:
        desk = desk_of(house, poll_s=0.05)
        return await desk.wait(await hold(desk, caller, seconds=0.2))

    outcome = asyncio.run(run())
    assert (outcome.state, outcome.text) == (State.EXPIRED, None)
    assert len(house.logged("held-expired")) == 1


def test_a_request_that_goes_away_closes_its_reply(house: House, caller: Principal) -> None:
    async def run() -> ReviewDesk:
        desk = desk_of(house)
        waiting = asyncio.create_task(desk.wait(await hold(desk, caller)))
        await asyncio.sleep(0.1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return desk

    assert asyncio.run(run()).replies.waiting() == []
    assert len(house.logged("held-abandoned")) == 1


def test_a_store_that_comes_back_costs_nothing(
    house: House, caller: Principal, rita: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> Outcome:
        desk = desk_of(house, poll_s=0.02)
        held = await hold(desk, caller)
        with monkeypatch.context() as broken:
            broken.setattr(desk.replies, "outcomes", _unreachable)
            waiting = asyncio.create_task(desk.wait(held))
            await asyncio.sleep(0.1)
        await desk.decide(held.id, State.RELEASED, by=rita)
        return await waiting

    assert asyncio.run(run()).text == "the reply"


def test_a_store_that_stays_away_is_an_error(house: House, caller: Principal, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        desk = desk_of(house, poll_s=0.02)
        held = await hold(desk, caller, seconds=0.1)
        monkeypatch.setattr(desk.replies, "outcomes", _unreachable)
        await desk.wait(held, patience_s=0.1)

    with pytest.raises(StoreError, match="held reply"):
        asyncio.run(run())


def test_a_changed_row_is_an_error(house: House, caller: Principal) -> None:
    async def run() -> None:
        desk = desk_of(house)
        held = await hold(desk, caller)
        with house.database.write() as connection:
            connection.execute(text("UPDATE held SET state = 'released'"))
        await desk.wait(held)

    with pytest.raises(AuditError):
        asyncio.run(run())


def test_a_desk_works_again_after_a_pause(house: House, caller: Principal, rita: Principal) -> None:
    async def run() -> list[str | None]:
        desk = desk_of(house, poll_s=0.02)
        texts = []
        for number in range(2):
            held = await hold(desk, caller, reply=str(number))
            waiting = asyncio.create_task(desk.wait(held))
            await desk.decide(held.id, State.RELEASED, by=rita)
            texts.append((await waiting).text)
            await asyncio.sleep(0.1)
        return texts

    assert asyncio.run(run()) == ["0", "1"]


def _unreachable(_ids: object) -> dict[str, Outcome]:
    raise StoreError("away")
