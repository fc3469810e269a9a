"""Reading ahead, merging, and signs of life."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from safetylayers.errors import EngineError
from safetylayers.oversee.gateway.merging import all_of, cancelled, merged, settled, with_signs_of_life
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
        try:
            async for batch in gathered(pieces(texts, fails=True)):
                found += [piece.text for piece in batch]
        except EngineError:
            return found
        raise AssertionError("nothing was raised")

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


def test_one_waits_for_work_until_somebody_leaves_or_something_else_is_so() -> None:
    async def yes() -> bool:
        return True

    async def no() -> bool:
        return False

    async def wait(seconds: float, gone: bool, so: bool) -> tuple[bool, bool]:
        work = asyncio.ensure_future(asyncio.sleep(seconds))
        left = await settled(work, or_gone=yes if gone else no, or_when=lambda: so, every_seconds=0.01)
        done = work.done()
        await cancelled(work)
        return left, done

    assert asyncio.run(wait(0.05, gone=False, so=False)) == (False, True)
    assert asyncio.run(wait(5, gone=True, so=False)) == (True, False)
    assert asyncio.run(wait(5, gone=False, so=True)) == (False, False)


def test_all_of_several_end_with_the_first_that_fails() -> None:
    ended: list[str] = []

    async def failing() -> int:
        await asyncio.sleep(0.01)
        raise EngineError("broke off")

    async def patient() -> int:
        try:
            await asyncio.sleep(10)
        finally:
            ended.append("patient")
        return 1

    async def quick(number: int) -> int:
        return number

    with pytest.raises(EngineError):
        asyncio.run(all_of([failing(), patient()]))
    assert ended == ["patient"]
    assert asyncio.run(all_of([quick(1), quick(2)])) == [1, 2]
