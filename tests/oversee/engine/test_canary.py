"""Monitors that are alive are told from those that are dead, frozen or upside down."""

from __future__ import annotations

import asyncio

import pytest

from oversee.engine.asking import ask, opened, probing, replied
from safetylayers.models import ChatModel
from safetylayers.oversee.engine.base import Canary
from safetylayers.oversee.engine.canary import judge
from safetylayers.oversee.words import Reading
from support import safety_layers


@pytest.fixture(scope="module")
def tiny() -> ChatModel:
    return ChatModel.load("tiny")


def examined(model: ChatModel, layers: object) -> Canary:
    async def run() -> Canary:
        async with opened(model, layers, steers=False) as engine:
            return await engine.canary()

    return asyncio.run(run())


def test_a_working_monitor_is_alive(tiny: ChatModel) -> None:
    found = examined(tiny, probing(tiny))
    assert found.alive
    assert "malicious" in found.detail


def test_a_monitor_that_reads_the_same_everywhere_is_not(tiny: ChatModel) -> None:
    found = examined(tiny, probing(tiny, broken=0.0))
    assert not found.alive
    assert "the same" in found.detail


def test_a_monitor_that_reads_no_numbers_is_not(tiny: ChatModel) -> None:
    found = examined(tiny, probing(tiny, broken=float("nan")))
    assert not found.alive
    assert "not a number" in found.detail


def test_a_model_that_nothing_watches_has_no_live_monitors(tiny: ChatModel) -> None:
    assert not examined(tiny, None).alive


def test_the_canaries_go_before_all_that_wait_and_beyond_what_may_run(tiny: ChatModel) -> None:
    async def run() -> None:
        layers = probing(tiny)
        async with opened(tiny, layers, steers=False, max_batch=1, max_waiting=50) as engine:
            waiting = [asyncio.create_task(replied(engine, ask(str(n), max_tokens=20))) for n in range(50)]
            await asyncio.sleep(0)
            assert (await engine.canary()).alive
            assert not all(task.done() for task in waiting)
            await asyncio.gather(*waiting)

    asyncio.run(run())


def test_a_stop_meanwhile_is_told(tiny: ChatModel) -> None:
    async def run() -> Canary:
        async with opened(tiny, safety_layers(tiny)) as engine:
            examining = asyncio.create_task(engine.canary())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            engine.halt()
            return await examining

    found = asyncio.run(run())
    assert not found.alive
    assert "stopped" in found.detail


def reading(risk: float | None, **scores: float) -> Reading:
    return Reading(scores={"harm": risk or 0.0, **scores}, risk=risk)


def test_what_counts_is_that_malicious_prompts_lie_above_normal_ones() -> None:
    high, low = [[reading(3.0)], [reading(2.0)]], [[reading(-3.0)], [reading(-1.0)]]
    assert judge(high, low).alive
    assert not judge(low, high).alive


@pytest.mark.parametrize("broken", [None, reading(None), reading(1.0, refusal=float("nan"))])
def test_one_reading_that_is_no_number_is_enough(broken: Reading | None) -> None:
    assert not judge([[reading(3.0)], [reading(2.0), broken]], [[reading(-1.0)]]).alive


def test_one_frozen_head_among_others_is_enough() -> None:
    found = judge([[reading(3.0, refusal=0.5)]], [[reading(-3.0, refusal=0.5)]])
    assert not found.alive
    assert "refusal" in found.detail
