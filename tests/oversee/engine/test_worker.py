"""A reply made among others that come and go is the reply made alone, for every architecture."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import pytest
import torch
import transformers
from transformers import GenerationConfig

from oversee.engine.asking import ENDLESS, ask, endless, middling, worker_of
from safetylayers.attach import SafetyLayers, attach
from safetylayers.models import ChatModel
from safetylayers.oversee.engine.mailbox import Mailbox
from safetylayers.oversee.engine.prompts import Prompts
from safetylayers.oversee.engine.row import Job
from safetylayers.prompts import render
from support import ARCHITECTURES, byte_tokenizer, random_chat_model

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


def of_config(name: str, **changes: object) -> ChatModel:
    """A random model of a kind that the other tests lack."""
    config = getattr(transformers, name)(
        vocab_size=300, hidden_size=32, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=128, pad_token_id=0, eos_token_id=ENDLESS, **changes,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return endless(ChatModel(model, byte_tokenizer(), name=name))


def test_caches_that_cannot_be_joined_run_side_by_side() -> None:
    kinds = ["conv", "full_attention", "conv", "full_attention"]
    model = of_config("Lfm2Config", intermediate_size=48, layer_types=kinds)
    layers = middling(model, ASKED)
    found = asyncio.run(together(model, layers))
    for number, tokens in SCHEDULE.values():
        assert found[number] == alone(model, layers, ASKED[number], tokens)


def test_layers_that_use_the_keys_of_others_are_joined_with_them() -> None:
    model = of_config(
        "Gemma3nTextConfig", intermediate_size=[48] * 4, head_dim=8, sliding_window=16, num_kv_shared_layers=2,
        layer_types=["sliding_attention", "full_attention"] * 2, hidden_size_per_layer_input=8, laurel_rank=4,
        vocab_size_per_layer_input=300, activation_sparsity_pattern=[0.0] * 4,
    )  # fmt: skip
    found = asyncio.run(together(model, None))
    for number, tokens in SCHEDULE.values():
        assert found[number] == alone(model, None, ASKED[number], tokens)
