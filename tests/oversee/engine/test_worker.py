"""A reply made among others that come and go is the reply made alone, for every architecture."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import pytest
import torch
from transformers import GenerationConfig

from oversee.engine.asking import ENDLESS, ask, endless, middling, worker_of
from safetylayers.attach import SafetyLayers, attach
from safetylayers.models import ChatModel
from safetylayers.oversee.engine.mailbox import Mailbox
from safetylayers.oversee.engine.prompts import Prompts
from safetylayers.oversee.engine.row import Job
from safetylayers.prompts import render
from support import ARCHITECTURES, random_chat_model

ASKED = ["Explain how rain forms over the sea, please.", "Hi", "What is the capital of France?", "Why?"]
SCHEDULE = {0: (0, 50), 4: (1, 12), 5: (2, 30), 20: (3, 40)}
"""Turn -> the request that comes then, and how many tokens it asks for: short ones come to a long one and leave."""


def alone(model: ChatModel, layers: SafetyLayers | None, text: str, tokens: int) -> list[int]:
    """What transformers generates."""
    batch = model.tokenize(render([text], model.tokenizer))
    config = GenerationConfig(max_new_tokens=tokens, do_sample=False, pad_token_id=0, eos_token_id=ENDLESS)

    def generated() -> list[int]:
        with torch.inference_mode():
            output = model.model.generate(
                input_ids=batch.input_ids, attention_mask=batch.attention_mask, generation_config=config
            )
        return [token for token in output[0, batch.input_ids.shape[1] :].tolist() if token != ENDLESS]

    if layers is None:
        return generated()
    with attach(model, layers):
        return generated()


async def together(model: ChatModel, layers: SafetyLayers | None, turns: int = 90) -> dict[int, list[int | None]]:
    """What the worker makes of requests that come one after another."""
    worker, forward = worker_of(model, layers)
    prompts, jobs = Prompts(model.tokenizer, "chat", None), {}
    for turn in range(turns):
        if turn in SCHEDULE:
            number, tokens = SCHEDULE[turn]
            asked = ask(str(number), ASKED[number], max_tokens=tokens)
            jobs[number] = Job(asked, Mailbox(), prompts.read(asked))
            worker.submit(jobs[number])
        worker.turn()
        await asyncio.sleep(0)
    forward.detach()
    found: dict[int, list[int | None]] = defaultdict(list)
    for number, job in jobs.items():
        assert job.ended
        while (piece := await job.mailbox.take()).finish is None or piece.tokens:
            found[number] += [token.id for token in piece.tokens]
            if piece.finish:
                break
    return found


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_reply_among_others_is_the_reply_alone(architecture: str, watched: bool) -> None:
    model = endless(random_chat_model(architecture))
    layers = middling(model, ASKED) if watched else None
    found = asyncio.run(together(model, layers))
    for number, tokens in SCHEDULE.values():
        assert found[number] == alone(model, layers, ASKED[number], tokens)


@pytest.mark.parametrize("architecture", ["Llama", "Gemma3"])
def test_caches_that_cannot_be_joined_run_side_by_side(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = endless(random_chat_model(architecture))
    layers = middling(model, ASKED)
    monkeypatch.setattr("safetylayers.oversee.engine.caches.can_join", lambda _: False)
    found = asyncio.run(together(model, layers))
    for number, tokens in SCHEDULE.values():
        assert found[number] == alone(model, layers, ASKED[number], tokens)
