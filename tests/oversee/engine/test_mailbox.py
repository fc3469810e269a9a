"""Pieces come in order, slow takers get them as one, and a stopped reply lets nothing more out."""

from __future__ import annotations

import asyncio
import threading

import pytest

from safetylayers.errors import EngineError
from safetylayers.oversee.engine.mailbox import Mailbox, deliver
from safetylayers.oversee.words import Piece, Token

FIRST = Piece(prompt_tokens=3)


def piece(text: str, **more: object) -> Piece:
    return Piece(text=text, tokens=(Token(text=text),), **more)


def test_the_first_piece_comes_alone_and_the_others_that_wait_as_one() -> None:
    async def taken() -> list[Piece]:
        box = Mailbox()
        for item in (FIRST, piece("a"), piece("b"), piece("c", finish="stop")):
            box.put(item)
        return [await box.take(), await box.take()]

    first, rest = asyncio.run(taken())
    assert first == FIRST
    assert (rest.text, len(rest.tokens), rest.finish) == ("abc", 3, "stop")


def test_what_came_before_an_error_comes_before_it() -> None:
    async def taken() -> Piece:
        box = Mailbox()
        box.put(piece("a"))
        box.put(EngineError("broke off"))
        found = await box.take()
        with pytest.raises(EngineError, match="broke off"):
            await box.take()
        return found

    assert asyncio.run(taken()).text == "a"


def test_a_stop_wakes_who_waits_and_lets_out_nothing_that_came_before() -> None:
    async def taken() -> None:
        box = Mailbox()
        waiting = asyncio.create_task(box.take())
        await asyncio.sleep(0)
        threading.Thread(target=box.stop, args=(EngineError("stopped"),)).start()
        with pytest.raises(EngineError, match="stopped"):
            await asyncio.wait_for(waiting, 5)
        box.put(piece("late"))
        with pytest.raises(EngineError, match="stopped"):
            await box.take()

    asyncio.run(taken())


def test_posts_reach_every_loop_and_a_loop_that_has_ended_closes_its_mailboxes() -> None:
    async def made() -> Mailbox:
        return Mailbox()

    gone = asyncio.run(made())

    async def taken() -> Piece:
        box = Mailbox()
        deliver([(gone, piece("nobody")), (box, piece("a"))])
        return await asyncio.wait_for(box.take(), 5)

    assert asyncio.run(taken()).text == "a"
    assert gone.closed
    gone.stop(EngineError("stopped"))
