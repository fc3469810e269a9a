"""Reading ahead: the engine goes on while guards read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from safetylayers.oversee.words import Piece


async def gathered(pieces: AsyncGenerator[Piece]) -> AsyncGenerator[list[Piece]]:
    """Yield all pieces that have come since the last time, at least one; closing it closes `pieces`.

    Whatever `pieces` raises is raised here, after the pieces that came before it.
    """
    waiting: list[Piece] = []
    news = asyncio.Event()

    async def pump() -> None:
        try:
            async for piece in pieces:
                waiting.append(piece)
                news.set()
        finally:
            await pieces.aclose()

    pumping = asyncio.create_task(pump())
    pumping.add_done_callback(lambda _: news.set())
    try:
        while waiting or not pumping.done():
            if not waiting:
                news.clear()
                await news.wait()
            batch, waiting[:] = list(waiting), []
            if batch:
                yield batch
        await pumping
    finally:
        pumping.cancel()
        await asyncio.gather(pumping, return_exceptions=True)


async def singly(pieces: AsyncGenerator[Piece]) -> AsyncGenerator[list[Piece]]:
    """Yield each piece as it comes; closing it closes `pieces`."""
    async with aclosing(pieces):
        async for piece in pieces:
            yield [piece]
