"""A server upstream, over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from oversee.servers import Upstream, running
from safetylayers.errors import BusyError, EngineError
from safetylayers.oversee.engine.upstream import UpstreamEngine
from safetylayers.oversee.words import Ask, Message, Piece, Sampling


@pytest.fixture
def upstream() -> Iterator[tuple[Upstream, str]]:
    server = Upstream()
    with running(server.app) as address:
        yield server, f"{address}/v1"


def ask(*, stream: bool = False, prompt: str | None = None) -> Ask:
    messages = () if prompt is not None else (Message("user", "What is the capital of France?"),)
    sampling = Sampling(max_tokens=20, temperature=0, stop=("\n",), seed=3)
    return Ask(id="req-1/0", model="mock", messages=messages, prompt=prompt, sampling=sampling, stream=stream)


def replies(address: str, asked: Ask) -> list[Piece]:
    async def read() -> list[Piece]:
        engine = UpstreamEngine(address)
        await engine.open()
        try:
            return [piece async for piece in engine.reply(asked)]
        finally:
            await engine.close()

    return asyncio.run(read())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("prompt", [None, "The capital of France"])
def test_a_reply_comes_through_as_it_was_sent(upstream: tuple[Upstream, str], stream: bool, prompt: str | None) -> None:
    server, address = upstream
    pieces = replies(address, ask(stream=stream, prompt=prompt))
    assert pieces[0].text == ""
    assert "".join(piece.text for piece in pieces) == server.text
    assert pieces[-1].finish == "stop"
    assert pieces[-1].completion_tokens in (6, 7)
    sent = server.seen[-1]
    assert sent["max_tokens"] == 20
    assert sent["stop"] == ["\n"]
    assert sent["seed"] == 3
    assert ("prompt" in sent) == (prompt is not None)


@pytest.mark.parametrize(
    ("fault", "stream"),
    [("cut", True), ("error-frame", True)]
    + [(fault, stream) for fault in ("odd-finish", "garbage", "broken") for stream in (False, True)],
)
def test_what_breaks_upstream_is_an_error_and_no_short_reply(
    upstream: tuple[Upstream, str], fault: str, stream: bool
) -> None:
    server, address = upstream
    server.fault = fault
    with pytest.raises(EngineError):
        replies(address, ask(stream=stream))


def test_a_server_that_is_busy_says_so(upstream: tuple[Upstream, str]) -> None:
    server, address = upstream
    server.fault = "busy"
    with pytest.raises(BusyError):
        replies(address, ask())


def test_a_server_that_is_not_there_is_named_as_the_reason() -> None:
    with pytest.raises(EngineError, match="cannot be used"):
        replies("http://127.0.0.1:9/v1", ask())


@pytest.mark.parametrize("address", ["ftp://x/v1", "not an address", "http:///v1"])
def test_an_address_that_makes_no_sense_is_refused(address: str) -> None:
    with pytest.raises(EngineError, match="not an address"):
        UpstreamEngine(address)


@pytest.mark.parametrize("fault", [None, "hang"])
def test_halting_ends_a_reply_at_once(upstream: tuple[Upstream, str], fault: str | None) -> None:
    server, address = upstream
    server.fault, server.pause = fault, 0.05
    server.text = "word " * 500

    async def read() -> float:
        engine = UpstreamEngine(address)
        await engine.open()

        async def consume() -> None:
            async for _ in engine.reply(ask(stream=True)):
                pass

        task = asyncio.create_task(consume())
        await asyncio.sleep(0.3)
        begun = asyncio.get_running_loop().time()
        assert engine.halt() == 1
        with pytest.raises(EngineError, match="stopped"):
            await task
        took = asyncio.get_running_loop().time() - begun
        await engine.close()
        return took

    assert asyncio.run(read()) < 0.15


def test_what_cannot_be_steered_says_so(upstream: tuple[Upstream, str]) -> None:
    engine = UpstreamEngine(upstream[1])
    assert engine.watched_by is None
    assert not engine.steers
    with pytest.raises(EngineError):
        engine.refuse("req-1/0")
