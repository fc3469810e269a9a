"""Several replies at once, and signs of life while nobody has anything to say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


async def merged(sources: Sequence[AsyncGenerator[Item]]) -> AsyncGenerator[tuple[int, Item]]:
    """Yield what several generators yield, as it comes, with the generator's place.

    The first that raises ends them all.
    """
    if len(sources) == 1:
        async with aclosing(sources[0]) as only:
            async for item in only:
                yield 0, item
        return
    ready: asyncio.Queue[tuple[int, Item] | BaseException | None] = asyncio.Queue(maxsize=1)

    async def drain(place: int, source: AsyncGenerator[Item]) -> None:
        try:
            async with aclosing(source) as items:
                async for item in items:
                    await ready.put((place, item))
            await ready.put(None)
        except Exception as error:
            await ready.put(error)

    drains = [asyncio.create_task(drain(place, source)) for place, source in enumerate(sources)]
    left = len(drains)
    try:
        while left:
            found = await ready.get()
            if isinstance(found, BaseException):
                raise found
            if found is None:
                left -= 1
            else:
                yield found
    finally:
        await cancelled(*drains)


async def with_signs_of_life(items: AsyncGenerator[Item], sign: Item, *, every_seconds: float) -> AsyncGenerator[Item]:
    """Yield what a generator yields, and a sign of life whenever it has yielded nothing for a while."""
    async with aclosing(items):
        while True:
            step = asyncio.ensure_future(anext(items))
            try:
                while not step.done():
                    await asyncio.wait((step,), timeout=every_seconds)
                    if not step.done():
                        yield sign
                item = step.result()
            except StopAsyncIteration:
                return
            finally:
                await cancelled(step)
            yield item


async def settled(
    work: asyncio.Future[Any],
    *,
    or_gone: Callable[[], Awaitable[bool]],
    or_when: Callable[[], bool],
    every_seconds: float,
) -> bool:
    """Wait until work is done, whoever waits for it is gone, or something else is so; return whether they are gone."""
    while not work.done():
        await asyncio.wait((work,), timeout=every_seconds)
        if not work.done():
            if await or_gone():
                return True
            if or_when():
                return False
    return False


async def all_of(works: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Return what several give; the first that raises ends them all."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        await cancelled(*tasks)


async def cancelled(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
