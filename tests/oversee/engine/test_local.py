"""The local engine replies as asked, lets out nothing unread, and ends when it is told to."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from oversee.engine.asking import ALWAYS, NEVER, Reply, ask, endless, greedy, opened, replied
from safetylayers.errors import BusyError, EngineError, UsageError
from safetylayers.models import ChatModel
from safetylayers.oversee.engine.local import LocalEngine
from safetylayers.oversee.words import Ask, Piece, Sampling
from safetylayers.prompts import builtin, render
from support import random_chat_model, safety_layers


@pytest.fixture(scope="module")
def tiny() -> ChatModel:
    return ChatModel.load("tiny")


@pytest.fixture
def llama() -> ChatModel:
    return endless(random_chat_model("Llama"))


@contextmanager
def held_up(model: ChatModel) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Within the block, every pass waits: one event says that one has begun, the other lets them go on."""
    begun, free = threading.Event(), threading.Event()

    def wait(*_: object) -> None:
        begun.set()
        assert free.wait(30)

    hook = model.model.get_decoder().register_forward_pre_hook(wait)
    try:
        yield begun, free
    finally:
        free.set()
        hook.remove()


@contextmanager
def counted(model: ChatModel) -> Iterator[list[int]]:
    """The rows of each pass."""
    rows: list[int] = []
    hook = model.model.get_decoder().register_forward_pre_hook(
        lambda _module, _args, options: rows.append(len(options["input_ids"])), with_kwargs=True
    )
    try:
        yield rows
    finally:
        hook.remove()


def only(model: ChatModel, asked: Ask, layers: object = None, **options: object) -> Reply:
    async def run() -> Reply:
        async with opened(model, layers, **options) as engine:
            return await replied(engine, asked)

    return asyncio.run(run())


def test_replies_to_many_at_once_are_what_the_model_generates(tiny: ChatModel) -> None:
    texts = builtin("normal", "test").take(20).texts + builtin("malicious", "test").take(20).texts

    async def run() -> list[Reply]:
        async with opened(tiny, safety_layers(tiny, threshold=NEVER), max_batch=7) as engine:
            asked = [ask(str(n), text, max_tokens=24) for n, text in enumerate(texts)]
            return await asyncio.gather(*(replied(engine, one) for one in asked))

    found = asyncio.run(run())
    expected = tiny.generate(render(texts, tiny.tokenizer), max_new_tokens=24)
    assert [reply.text.strip() for reply in found] == expected
    assert {reply.finish for reply in found} <= {"stop", "length"}
    assert all(reading for reply in found for reading in reply.readings)


def test_the_first_piece_tells_of_the_prompt_and_has_no_text(tiny: ChatModel) -> None:
    first, *others = only(tiny, ask("a"), safety_layers(tiny)).pieces
    assert first.text == ""
    assert first.prompt_tokens == len(tiny.tokenizer(render(["Tell me about rain."], tiny.tokenizer)[0]).input_ids)
    assert first.prompt_reading is not None
    assert set(first.prompt_reading.scores) == {"harm", "refusal"}
    assert all(piece.prompt_tokens is None and piece.prompt_reading is None for piece in others)


def test_every_token_comes_with_the_reading_of_that_token(tiny: ChatModel) -> None:
    from safetylayers.attach import TokenTrace, attach

    layers, seen = safety_layers(tiny, threshold=NEVER), list[TokenTrace]()
    found = only(tiny, ask("a", max_tokens=6), layers)
    text = render(["Tell me about rain."], tiny.tokenizer)[0]
    with attach(tiny, layers, trace=seen.extend), torch.inference_mode():
        tiny.next_token_logits(tiny.batch_of([tiny.tokenizer(text).input_ids + found.ids]))
    assert len(found.tokens) == 6
    expected = seen[-6:]
    for token, trace in zip(found.tokens, expected, strict=True):
        assert token.reading is not None
        assert token.reading.risk == pytest.approx(trace.risk, abs=1e-3)
        harm = sum(trace.scores["harm"]) / len(trace.scores["harm"])
        assert token.reading.scores["harm"] == pytest.approx(harm, abs=1e-3)


def test_without_monitors_tokens_come_without_readings(tiny: ChatModel) -> None:
    found = only(tiny, ask("a", max_tokens=3))
    assert (len(found.tokens), found.finish) == (3, "length")
    assert found.readings == [None] * 3


@pytest.mark.parametrize("watched", [False, True])
def test_one_seed_gives_one_reply_alone_and_among_others(llama: ChatModel, watched: bool) -> None:
    layers = safety_layers(llama, threshold=NEVER) if watched else None
    drawn = Sampling(seed=5, max_tokens=20, temperature=0.9, top_p=0.9)

    async def among() -> list[Reply]:
        async with opened(llama, layers) as engine:
            others = [Ask(id=f"o{n}", model="m", prompt="x" * n, sampling=Sampling(max_tokens=9)) for n in range(1, 6)]
            asked = [*others[:3], replace(ask("a"), sampling=drawn), *others[3:]]
            return await asyncio.gather(*(replied(engine, one) for one in asked))

    expected = only(llama, replace(ask("a"), sampling=drawn), layers).ids
    assert asyncio.run(among())[3].ids == expected
    assert only(llama, replace(ask("a"), sampling=replace(drawn, seed=6)), layers).ids != expected


@pytest.mark.parametrize("watched", [False, True])
def test_a_text_that_ends_the_reply_is_left_out_with_all_behind_it(tiny: ChatModel, watched: bool) -> None:
    layers = safety_layers(tiny, threshold=NEVER) if watched else None
    whole = only(tiny, ask("a", max_tokens=20), layers).text
    stop = whole[len(whole) // 2 :][:5]
    found = only(tiny, ask("a", max_tokens=20, stop=("no such text", stop)), layers)
    assert found.text == whole.split(stop)[0]
    assert found.finish == "stop"
    assert "".join(token.text for token in found.tokens) == found.text


def test_log_probabilities_are_the_models_and_the_chosen_token_leads_the_alternatives(tiny: ChatModel) -> None:
    found = only(tiny, ask("a", max_tokens=5, logprobs=3), safety_layers(tiny, threshold=NEVER))
    text = render(["Tell me about rain."], tiny.tokenizer)[0]
    expected = tiny.reply_logprobs([text], [tiny.tokenizer.decode(found.ids)])[0]
    assert [token.logprob for token in found.tokens] == pytest.approx(expected.tolist(), abs=1e-4)
    for token in found.tokens:
        assert len(token.top) == 3
        assert token.top[0] == (token.text, token.logprob) or token.text.strip() == token.top[0][0].strip()


def test_a_prompt_is_echoed_and_scored_without_a_reply(tiny: ChatModel) -> None:
    text = "The rain falls on the sea"
    asked = [
        Ask(id=name, model="m", prompt=text, echo=True, sampling=greedy(max_tokens=0, logprobs=2)) for name in "ab"
    ]
    longer = render(["Tell me about rain."], tiny.tokenizer)[0]
    replying = Ask(id="c", model="m", prompt=longer, echo=True, sampling=greedy(max_tokens=2, logprobs=1))

    async def run() -> list[Reply]:
        async with opened(tiny, safety_layers(tiny, threshold=NEVER)) as engine:
            return await asyncio.gather(*(replied(engine, one) for one in [*asked, replying]))

    found = asyncio.run(run())
    ids = tiny.tokenizer(text).input_ids
    with torch.inference_mode():
        logprobs = tiny.next_logprobs(tiny.batch_of([ids]), len(ids))[0]
    for reply in found[:2]:
        echoed = reply.pieces[0].echoed
        assert (reply.text, reply.tokens, reply.finish) == ("", [], "length")
        assert "".join(token.text for token in echoed) == text
        assert echoed[0].logprob is None
        expected = [logprobs[n, token].item() for n, token in enumerate(ids[1:])]
        assert [token.logprob for token in echoed[1:]] == pytest.approx(expected, abs=1e-4)
        assert all(len(token.top) == 2 for token in echoed[1:])
    assert len(found[2].tokens) == 2
    assert "".join(token.text for token in found[2].pieces[0].echoed) == longer


def test_a_reply_ends_where_the_context_does(tiny: ChatModel) -> None:
    found = only(tiny, Ask(id="a", model="m", prompt="rain " * 20, sampling=greedy(max_tokens=99)), max_context=25)
    assert (found.pieces[0].prompt_tokens or 0) + len(found.tokens) <= 25
    assert found.finish in ("length", "stop")


def test_the_gate_acts_only_where_it_may_and_when_it_is_told(llama: ChatModel) -> None:
    layers = safety_layers(llama, threshold=ALWAYS)
    opens = [bool(reading and reading.open) for reading in only(llama, ask("a"), layers).readings]
    assert all(opens)
    for reply in (
        only(llama, replace(ask("a"), steered=False), layers),
        only(llama, ask("a"), layers, steers=False),
        only(llama, replace(ask("a"), shift=3 * NEVER), layers),
    ):
        assert not any(reading and reading.open for reading in reply.readings)
        assert reply.ids == only(llama, ask("a")).ids
    closed = safety_layers(llama, threshold=NEVER)
    for asked in (replace(ask("a"), refuse=True), replace(ask("a"), shift=-3 * NEVER)):
        assert all(reading and reading.open for reading in only(llama, asked, closed).readings)


def test_a_running_reply_can_be_told_to_refuse_and_the_order_ends_with_it(llama: ChatModel) -> None:
    async def run() -> tuple[list[bool], list[bool]]:
        async with opened(llama, safety_layers(llama, threshold=NEVER)) as engine:
            opens: list[bool] = []
            async for piece in engine.reply(ask("a", max_tokens=60)):
                opens += [bool(token.reading and token.reading.open) for token in piece.tokens]
                if len(opens) > 2:
                    engine.refuse("a")
            engine.refuse("a")
            again = await replied(engine, ask("a"))
            return opens, [bool(reading and reading.open) for reading in again.readings]

    opens, again = asyncio.run(run())
    assert opens == sorted(opens)
    assert (opens[0], opens[-1]) == (False, True)
    assert not any(again)


def test_where_the_gate_may_only_observe_nobody_can_order_a_refusal(llama: ChatModel) -> None:
    async def run() -> None:
        async with opened(llama, safety_layers(llama), steers=False) as engine:
            with pytest.raises(EngineError, match="cannot be turned into refusals"):
                engine.refuse("a")
            with pytest.raises(EngineError, match="cannot be turned into refusals"):
                await replied(engine, replace(ask("a"), refuse=True))

    asyncio.run(run())


def test_a_reader_that_leaves_ends_its_reply(llama: ChatModel) -> None:
    async def run(rows: list[int]) -> None:
        async with opened(llama) as engine:
            pieces = engine.reply(ask("a", max_tokens=10**9, stop=("never",)))
            await anext(pieces)
            await pieces.aclose()
            assert await replied(engine, ask("b", max_tokens=2))
            assert rows[-1] == 1
            passes = len(rows)
            await asyncio.sleep(0.05)
            assert len(rows) == passes

    llama.model.config.max_position_embeddings = 10**9
    with counted(llama) as rows:
        asyncio.run(run(rows))


def test_a_halt_ends_all_that_run_or_wait_at_once_and_the_engine_lives_on(llama: ChatModel) -> None:
    async def run() -> None:
        async with opened(llama, safety_layers(llama), max_batch=2) as engine:
            with held_up(llama) as (begun, free):
                asked = [asyncio.create_task(replied(engine, ask(str(n)))) for n in range(5)]
                await asyncio.to_thread(begun.wait, 30)
                assert await asyncio.to_thread(engine.halt) == 5
                done = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 5)
                assert all(isinstance(error, EngineError) and "stopped" in str(error) for error in done)
                free.set()
            assert len((await replied(engine, ask("after"))).tokens) == 12
            assert engine.halt() == 0

    asyncio.run(run())


def test_after_a_halt_nothing_leaves_that_was_made_before(llama: ChatModel) -> None:
    async def run() -> None:
        async with opened(llama) as engine:
            pieces = engine.reply(ask("a", max_tokens=50))
            await anext(pieces)
            time.sleep(0.2)
            engine.halt()
            with pytest.raises(EngineError, match="stopped"):
                await anext(pieces)

    asyncio.run(run())


def test_a_slow_reader_gets_what_came_meanwhile_in_one_piece(llama: ChatModel) -> None:
    async def run() -> list[Piece]:
        async with opened(llama) as engine:
            pieces = engine.reply(ask("a", max_tokens=30))
            first = await anext(pieces)
            time.sleep(0.5)
            return [first, *[piece async for piece in pieces]]

    found = asyncio.run(run())
    assert len(found) < 30
    assert sum(len(piece.tokens) for piece in found) == 30


def test_more_requests_than_may_wait_are_refused_at_once(llama: ChatModel) -> None:
    async def run() -> None:
        async with opened(llama, max_batch=1, max_waiting=1) as engine:
            with held_up(llama) as (begun, free):
                asked = [asyncio.create_task(replied(engine, ask(str(n)))) for n in range(2)]
                await asyncio.to_thread(begun.wait, 30)
                with pytest.raises(BusyError):
                    await asyncio.wait_for(replied(engine, ask("more")), 5)
                free.set()
            assert all(reply.tokens for reply in await asyncio.gather(*asked))
            assert (await replied(engine, ask("more"))).tokens

    asyncio.run(run())


def test_two_replies_of_one_name_at_once_and_unknown_models_are_refused(llama: ChatModel) -> None:
    async def run() -> None:
        async with opened(llama) as engine:
            pieces = engine.reply(ask("a", max_tokens=50))
            await anext(pieces)
            with pytest.raises(EngineError, match="already"):
                await replied(engine, ask("a"))
            await pieces.aclose()
            with pytest.raises(EngineError, match="no model"):
                await replied(engine, replace(ask("b"), model="other"))

    asyncio.run(run())


def test_a_row_whose_output_is_no_number_fails_alone(llama: ChatModel) -> None:
    poison = llama.tokenizer("z").input_ids[0]
    with torch.no_grad():
        llama.model.get_input_embeddings().weight[poison] = float("nan")

    async def run() -> tuple[Reply, BaseException, BaseException, list[Piece]]:
        async with opened(llama, safety_layers(llama, threshold=NEVER)) as engine:
            scored = Ask(id="c", model="m", prompt="az", echo=True, sampling=greedy(max_tokens=0, logprobs=1))
            good, *bad = await asyncio.gather(
                replied(engine, ask("a", "good")),
                replied(engine, ask("b", "zzz")),
                replied(engine, scored),
                return_exceptions=True,
            )
            pieces = engine.reply(ask("d", "zzz"))
            return good, *bad, [await anext(pieces)]

    good, *bad, pieces = asyncio.run(run())
    assert len(good.tokens) == 12
    assert all(isinstance(error, EngineError) and "not a number" in str(error) for error in bad)
    assert pieces[0].prompt_reading is not None
    assert pieces[0].prompt_reading.risk is None


def test_a_pass_that_fails_takes_no_other_with_it_and_says_nothing_of_the_prompt(
    llama: ChatModel, caplog: pytest.LogCaptureFixture
) -> None:
    trigger = llama.tokenizer("z").input_ids[0]

    def fail(_module: object, _args: object, options: dict[str, torch.Tensor]) -> None:
        if (options["input_ids"] == trigger).any():
            raise torch.OutOfMemoryError("out of memory")

    async def run() -> list[Reply | BaseException]:
        async with opened(llama, safety_layers(llama, threshold=NEVER)) as engine:
            with held_up(llama) as (begun, free):
                blocker = asyncio.create_task(replied(engine, ask("0")))
                await asyncio.to_thread(begun.wait, 30)
                texts = ["one", "zzz secret", "two"]
                asked = [asyncio.create_task(replied(engine, ask(text, text))) for text in texts]
                await asyncio.sleep(0.1)
                free.set()
            return await asyncio.gather(blocker, *asked, return_exceptions=True)

    hook = llama.model.get_decoder().register_forward_pre_hook(fail, with_kwargs=True)
    blocker, one, bad, two = asyncio.run(run())
    hook.remove()
    assert isinstance(bad, EngineError)
    assert "ran out of memory" in str(bad)
    assert "secret" not in caplog.text
    assert [reply.ids for reply in (blocker, one, two)] == [
        only(llama, ask("a", text)).ids for text in ("Tell me about rain.", "one", "two")
    ]


def test_a_step_that_fails_fails_its_rows_and_the_engine_lives_on(llama: ChatModel) -> None:
    def fail(_module: object, _args: object, options: dict[str, torch.Tensor]) -> None:
        if options["input_ids"].shape[1] == 1:
            raise RuntimeError("broken")

    async def run() -> None:
        async with opened(llama, safety_layers(llama, threshold=NEVER)) as engine:
            hook = llama.model.get_decoder().register_forward_pre_hook(fail, with_kwargs=True)
            with pytest.raises(EngineError, match=r"failed \(RuntimeError\)"):
                await replied(engine, ask("a"))
            hook.remove()
            assert len((await replied(engine, ask("a"))).tokens) == 12

    asyncio.run(run())


def test_requests_of_several_event_loops_are_served(llama: ChatModel) -> None:
    async def run() -> tuple[list[Reply], Reply]:
        async with opened(llama) as engine:
            elsewhere = [asyncio.to_thread(asyncio.run, replied(engine, ask(f"t{n}"))) for n in range(3)]
            *others, mine = await asyncio.gather(*elsewhere, replied(engine, ask("a")))
            return others, mine

    others, mine = asyncio.run(run())
    assert all(reply.ids == mine.ids for reply in others)


def test_a_closed_engine_leaves_the_model_as_it_was_and_can_be_opened_again(llama: ChatModel) -> None:
    async def run() -> None:
        engine = LocalEngine(llama, layers=safety_layers(llama), steers=True, names=("m",))
        with pytest.raises(EngineError, match="not open"):
            await replied(engine, ask("a"))
        await engine.open()
        running = asyncio.create_task(replied(engine, ask("a", max_tokens=80)))
        await asyncio.sleep(0.02)
        await engine.close()
        await engine.close()
        with pytest.raises(EngineError):
            await running
        with pytest.raises(EngineError, match="not open"):
            await replied(engine, ask("a"))
        assert not any(layer._forward_hooks for layer in llama.layers)
        await engine.open()
        assert (await replied(engine, ask("a"))).tokens
        await engine.close()

    asyncio.run(run())


def test_what_makes_no_sense_is_refused(llama: ChatModel) -> None:
    with pytest.raises(UsageError, match="no safety layers"):
        LocalEngine(llama, layers=None, steers=True, names=("m",))
    with pytest.raises(UsageError, match="no name"):
        LocalEngine(llama, layers=None, steers=False, names=())
    with pytest.raises(UsageError, match="too few"):
        LocalEngine(llama, layers=None, steers=False, names=("m",), max_batch=0)
    with pytest.raises(EngineError, match="temperature"):
        only(llama, ask("a", temperature=-1.0))
