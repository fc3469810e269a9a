"""Reading ahead, merging, and signs of life."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from safetylayers.errors import EngineError
from safetylayers.oversee.gateway.merging import merged, unless, with_signs_of_life
from safetylayers.oversee.gateway.pump import gathered
from safetylayers.oversee.words import Piece


async def counting(name: str, upto: int, closed: list[str], *, pause: float = 0.0) -> AsyncGenerator[str]:
    try:
        for number in range(upto):
            await asyncio.sleep(pause)
            yield f"{name}{number}"
    finally:
        closed.append(name)


async def pieces(texts: list[str], *, fails: bool = False) -> AsyncGenerator[Piece]:
    for text in texts:
        yield Piece(text=text)
    if fails:
        raise EngineError("broke off")


def test_everything_that_a_slow_reader_missed_comes_at_once_and_in_order() -> None:
    async def read() -> list[list[str]]:
        batches = []
        async for batch in gathered(pieces(["a", "b", "c", "d"])):
            batches.append([piece.text for piece in batch])
            await asyncio.sleep(0.01)
        return batches

    batches = asyncio.run(read())
    assert [text for batch in batches for text in batch] == ["a", "b", "c", "d"]
    assert len(batches) == 1


@pytest.mark.parametrize("texts", [[], ["a"], ["a", "b"]])
def test_what_the_engine_raises_comes_after_what_it_made(texts: list[str]) -> None:
    async def read() -> list[str]:
        found = []
        with pytest.raises(EngineError):
            async for batch in gathered(pieces(texts, fails=True)):
                found += [piece.text for piece in batch]
        return found

    assert asyncio.run(read()) == texts


def test_leaving_early_closes_the_engine() -> None:
    closed: list[str] = []

    async def endless() -> AsyncGenerator[Piece]:
        try:
            while True:
                await asyncio.sleep(0)
                yield Piece(text="x")
        finally:
            closed.append("engine")

    async def read() -> None:
        batches = gathered(endless())
        await anext(batches)
        await batches.aclose()

    asyncio.run(read())
    assert closed == ["engine"]


def test_merged_generators_yield_everything_each_in_its_own_order() -> None:
    closed: list[str] = []

    async def read() -> list[tuple[int, str]]:
        return [found async for found in merged([counting("a", 5, closed), counting("b", 3, closed)])]

    found = asyncio.run(read())
    assert [item for place, item in found if place == 0] == [f"a{n}" for n in range(5)]
    assert [item for place, item in found if place == 1] == [f"b{n}" for n in range(3)]
    assert sorted(closed) == ["a", "b"]


def test_one_that_fails_ends_the_others() -> None:
    closed: list[str] = []

    async def failing() -> AsyncGenerator[str]:
        yield "first"
        raise EngineError("broke off")

    async def read() -> None:
        async for _ in merged([failing(), counting("b", 1000, closed, pause=0.01)]):
            pass

    with pytest.raises(EngineError):
        asyncio.run(read())
    assert closed == ["b"]


def test_a_silent_generator_shows_signs_of_life_and_loses_nothing() -> None:
    closed: list[str] = []

    async def read() -> list[str]:
        source = counting("a", 2, closed, pause=0.05)
        return [item async for item in with_signs_of_life(source, "alive", every_seconds=0.02)]

    found = asyncio.run(read())
    assert [item for item in found if item != "alive"] == ["a0", "a1"]
    assert found.count("alive") >= 2
    assert closed == ["a"]


def test_work_for_somebody_who_left_is_cancelled() -> None:
    ended: list[str] = []

    async def work() -> str:
        try:
            await asyncio.sleep(10)
        finally:
            ended.append("work")
        return "done"

    async def gone() -> bool:
        return True

    async def here() -> bool:
        return False

    async def quick() -> str:
        await asyncio.sleep(0.03)
        return "done"

    assert asyncio.run(unless(gone, work(), every_seconds=0.01)) is None
    assert ended == ["work"]
    assert asyncio.run(unless(here, quick(), every_seconds=0.01)) == "done"
