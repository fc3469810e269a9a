"""What tests of the local engine ask it, and models for it to run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from safetylayers.attach import (
    Control,
    GateSettings,
    HeadCalibration,
    LayersRecord,
    SafetyLayers,
    Thresholds,
    TokenTrace,
    attach,
)
from safetylayers.attach.correction import Correction
from safetylayers.attach.heads import Heads
from safetylayers.models import ChatModel
from safetylayers.oversee.engine.detokenizer import Vocabulary
from safetylayers.oversee.engine.forward import Forward
from safetylayers.oversee.engine.local import LocalEngine
from safetylayers.oversee.engine.row import Habits
from safetylayers.oversee.engine.worker import Worker
from safetylayers.oversee.words import Ask, Message, Piece, Reading, Sampling, Token
from safetylayers.prompts import builtin, render
from safetylayers.records import Provenance
from support import safety_layers

NEVER, ALWAYS = 1e6, -1e6
ENDLESS = 299
"""A token of the random models that their tokenizer lacks; as the end of the text it hardly ever comes."""


@dataclass(frozen=True)
class Reply:
    """A whole reply."""

    pieces: tuple[Piece, ...]

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @property
    def tokens(self) -> list[Token]:
        return [token for piece in self.pieces for token in piece.tokens]

    @property
    def ids(self) -> list[int | None]:
        return [token.id for token in self.tokens]

    @property
    def readings(self) -> list[Reading | None]:
        return [token.reading for token in self.tokens]

    @property
    def finish(self) -> str | None:
        return self.pieces[-1].finish


def ask(name: str, text: str = "Tell me about rain.", **sampling: object) -> Ask:
    """A greedy request of one message."""
    return Ask(id=name, model="m", messages=(Message("user", text),), sampling=greedy(**sampling))


def greedy(**sampling: object) -> Sampling:
    return Sampling(**{"temperature": 0.0, "max_tokens": 12, **sampling})


async def replied(engine: LocalEngine, asked: Ask) -> Reply:
    return Reply(tuple([piece async for piece in engine.reply(asked)]))


@asynccontextmanager
async def opened(
    model: ChatModel, layers: SafetyLayers | None = None, *, steers: bool | None = None, **options: int
) -> AsyncIterator[LocalEngine]:
    """An engine on a model, closed again behind the block."""
    steering = layers is not None if steers is None else steers
    engine = LocalEngine(model, layers=layers, steers=steering, names=("m",), **options)
    await engine.open()
    try:
        yield engine
    finally:
        await engine.close()


def worker_of(model: ChatModel, layers: SafetyLayers | None, *, max_batch: int = 8) -> tuple[Worker, Forward]:
    """A worker that waits to be told to take a turn."""
    forward = Forward(model, layers, Control())
    habits = Habits(Vocabulary(model.tokenizer), model.ends_of_text, None, model.device)
    return Worker(forward, habits, 300, max_batch), forward


def endless(model: ChatModel) -> ChatModel:
    """The model, whose replies do not end by themselves."""
    model.model.generation_config.eos_token_id = ENDLESS
    return model


def last_logits(model: ChatModel, texts: Sequence[str]) -> Tensor:
    with torch.inference_mode():
        return model.next_token_logits(model.tokenize(texts))


def middling(model: ChatModel, texts: Sequence[str]) -> SafetyLayers:
    """Layers whose gate opens for the highest of these prompts and not for the others."""
    seen: list[TokenTrace] = []
    with attach(model, safety_layers(model, threshold=NEVER), trace=seen.extend):
        last_logits(model, render(texts, model.tokenizer))
    scores = sorted(sum(t.scores["harm"]) / len(t.scores["harm"]) for t in seen if t.kind == "prompt end")
    return safety_layers(model, threshold=(scores[-1] + scores[-2]) / 2)


def probing(model: ChatModel, layer: int = 4, *, broken: float | None = None) -> SafetyLayers:
    """A monitor that works: the difference of means at one layer, scaled to log-odds of a kind.

    Args:
        model: the practice model.
        layer: where it reads.
        broken: what takes the place of all its weights.
    """
    means = []
    for name in ("malicious", "normal"):
        texts = render(builtin(name, "train").take(40).texts, model.tokenizer)
        means.append(model.hidden_states(texts, layers=[layer])[:, 0, 0].mean(dim=0))
    direction = (means[0] - means[1]) / (means[0] - means[1]).norm()
    offset = -(direction @ (means[0] + means[1])) / 2
    if broken is not None:
        direction, offset = torch.full_like(direction, broken), torch.tensor(broken)
    limits = Thresholds(prompt=0.0, mean=NEVER, peak=NEVER)
    record = LayersRecord(
        provenance=Provenance(model=model.name, model_hash=model.weights_hash), map_hash="none",
        n_layers=model.n_layers, hidden_size=model.hidden_size, layers=(layer,), placed_by="user", template="chat",
        trained=False, heads=("harm",), width=0, pools=0, rank=0,
        calibration={"harm": HeadCalibration(thresholds=limits)}, gate=GateSettings(),
    )  # fmt: skip
    heads = Heads.of_probes(direction[None], offset[None], "harm").requires_grad_(False)
    return SafetyLayers(record, heads, Correction.steering(direction).requires_grad_(False))
