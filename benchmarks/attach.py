"""Times a model with its safety layers on, gate closed, against the bare model; and against a second model as a guard.

    python benchmarks/attach.py            tiny, then a random Llama of 30 layers, 576 wide
    python benchmarks/attach.py --quick    tiny alone

Prompt and decoding are timed apart, at batch 1 and 8. Bare and attached runs alternate, so that a machine that grows
slower slows both; the least time of each is taken, for noise only adds. The rivals are guards of the model's own size:
one that reads each request with its reply once, when it is complete, and one that reads every token as it comes, as
safety layers do.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import DynamicCache

from locate import random_llama
from safetylayers.attach import HeadCalibration, LayersRecord, SafetyLayers, Thresholds, attach
from safetylayers.attach.correction import Correction
from safetylayers.attach.heads import Heads
from safetylayers.locate.directions import prompt_ending
from safetylayers.models import ChatModel
from safetylayers.prompts import builtin
from safetylayers.records import Provenance

PROMPT, REPLY = 64, 64
"""Tokens of a prompt and of a reply."""
RUNS = 15
HEADS = ("harm", "refusal", "privacy")
CLOSED = 1e6
NOISE = 0.005
"""Share of the bare time below which a difference is noise: no ratio is taken of less."""


def closed_layers(model: ChatModel, layers: Sequence[int]) -> SafetyLayers:
    """Return heads of the default size, behind thresholds that nothing passes: what normal users pay for."""
    heads = Heads(len(layers), model.hidden_size, HEADS, pools=8).requires_grad_(False)
    limits = Thresholds(prompt=CLOSED, mean=CLOSED, peak=CLOSED)
    record = LayersRecord(
        provenance=Provenance(model=model.name, model_hash=model.weights_hash), map_hash="none",
        n_layers=model.n_layers, hidden_size=model.hidden_size, layers=tuple(layers), placed_by="user", template="chat",
        trained=False, heads=HEADS, width=0, pools=8, rank=16,
        calibration={name: HeadCalibration(thresholds=limits) for name in HEADS},
    )  # fmt: skip
    return SafetyLayers(record, heads, Correction(model.hidden_size, 16).requires_grad_(False))


@dataclass(frozen=True)
class Work:
    """Requests of equal length."""

    model: ChatModel
    tokens: torch.Tensor
    """[rows, PROMPT]"""

    @classmethod
    def of(cls, model: ChatModel, rows: int) -> Work:
        """Return requests made of built-in prompts, cut to length."""
        ending = prompt_ending(model, "chat")
        ids = model.tokenizer(" ".join(builtin("normal", "train").texts), add_special_tokens=False).input_ids
        width = PROMPT - len(ending)
        return cls(model, torch.tensor([[*ids[row * width :][:width], *ending] for row in range(rows)]))

    def read(self) -> tuple[float, DynamicCache]:
        """Read the prompts; return the seconds and the cache."""
        cache = DynamicCache(config=self.model.model.config)
        mask = torch.ones_like(self.tokens)
        start = time.perf_counter()
        self.model.model(input_ids=self.tokens, attention_mask=mask, past_key_values=cache, logits_to_keep=1)
        return time.perf_counter() - start, cache

    def prompt(self) -> float:
        """Return the seconds that reading the prompts takes."""
        return self.read()[0]

    def decode(self) -> float:
        """Return the seconds that a reply takes, the prompt's left out."""
        _, cache = self.read()
        token, mask = self.tokens[:, -1:], torch.ones_like(self.tokens)
        start = time.perf_counter()
        for _ in range(REPLY):
            mask = torch.cat([mask, torch.ones_like(token)], dim=1)
            logits = self.model.model(input_ids=token, attention_mask=mask, past_key_values=cache).logits
            token = logits[:, -1:].argmax(-1)
        return time.perf_counter() - start

    def guard(self) -> float:
        """Return the seconds that a guard of the same size takes for prompts and replies."""
        whole = torch.cat([self.tokens, self.tokens[:, :REPLY]], dim=1)
        start = time.perf_counter()
        self.model.model(input_ids=whole, attention_mask=torch.ones_like(whole), use_cache=False, logits_to_keep=1)
        return time.perf_counter() - start


def alternate(work: Callable[[], float], layers: SafetyLayers, model: ChatModel) -> tuple[float, float]:
    """Return the bare seconds, and the seconds that safety layers add: the least of each, since noise only adds."""
    bare, guarded = [], []
    work()
    for _ in range(RUNS):
        bare.append(work())
        with attach(model, layers):
            guarded.append(work())
    return min(bare), min(guarded) - min(bare)


def measure(model: ChatModel, layers: Sequence[int]) -> None:
    """Print all ratios of one model."""
    made = closed_layers(model, layers)
    for rows in (1, 8):
        work = Work.of(model, rows)
        with torch.inference_mode():
            prompt, more_prompt = alternate(work.prompt, made, model)
            decode, more_decode = alternate(work.decode, made, model)
            guard = min(work.guard() for _ in range(RUNS))
        cost = max(more_prompt + more_decode, NOISE * (prompt + decode))
        print(
            f"{model.name}, batch {rows}: prompt {rows * PROMPT / prompt:,.0f} tokens/s, "
            f"{100 * more_prompt / prompt:+.1f} %; decoding {rows * REPLY / decode:,.0f} tokens/s, "
            f"{100 * more_decode / decode:+.1f} %; safety layers cost {1000 * cost:.1f} ms a batch: "
            f"{guard / cost:.1f}x cheaper than a guard that reads once, "
            f"{(prompt + decode) / cost:.1f}x cheaper than one that reads every token"
        )


if __name__ == "__main__":
    measure(ChatModel.load("tiny"), (0, 1))
    if "--quick" not in sys.argv:
        measure(random_llama(), (9, 10, 11))
