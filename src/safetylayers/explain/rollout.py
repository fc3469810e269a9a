"""Attention rollout (Abnar and Zuidema 2020, arXiv 2005.00928, section 3): attention followed down to the tokens.

Each layer mixes what its heads read, on average, with what the residual stream brings along, in equal parts:
A = W / 2 + I / 2. The product of all layers' A says from which tokens a position is fed. It takes averages for what
heads do and leaves MLPs out: a diagnostic, and no cause.

Shapes: H heads, T tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from safetylayers.explain.attention import DIAGNOSTIC, rounded
from safetylayers.explain.tokens import Reading
from safetylayers.models.attending import noted
from safetylayers.records import Provenance, Record

if TYPE_CHECKING:
    from safetylayers.models import ChatModel


class Rollout(Record):
    """From which tokens the last one is fed through all layers. A diagnostic, and no cause."""

    schema_version: Literal[1] = 1
    provenance: Provenance
    meaning: str = DIAGNOSTIC
    prompt: str
    tokens: tuple[str, ...]
    """Of the rendered prompt."""
    words: tuple[str, ...]
    """Of the prompt as it was typed."""
    token_weights: tuple[float, ...]
    """They sum to 1, but for rounding."""
    word_weights: tuple[float, ...]
    """The sum of each word's tokens. What the template adds belongs to no word."""


def attention_rollout(model: ChatModel, reading: Reading) -> Rollout:
    """Roll attention out from the last token to the prompt's tokens, in one forward pass.

    One layer's maps at a time are held, and one matrix [T, T].

    Raises:
        UsageError: the model's attention cannot be recorded.
        UnknownArchitectureError: a layer has no attention of transformers' form.
    """
    T = len(reading.token_ids)
    product_TT = torch.eye(T)

    def follow(_layer: int, weights_BHTT: Tensor) -> None:
        nonlocal product_TT
        product_TT = rolled(product_TT.to(weights_BHTT.device), weights_BHTT[0])

    with noted(model, range(model.n_layers), follow, rows="all"):
        model.next_token_logits(model.batch_of([reading.token_ids]))
    weights: list[float] = product_TT[-1].tolist()
    return Rollout(
        provenance=Provenance(model=model.name, model_hash=model.weights_hash),
        prompt=reading.prompt,
        tokens=reading.tokens,
        words=tuple(word.text for word in reading.words),
        token_weights=rounded(weights),
        word_weights=rounded(reading.by_word(weights)),
    )


def rolled(product_TT: Tensor, weights_HTT: Tensor) -> Tensor:
    """Return the rollout one layer further up: [T, T], rows that sum to 1.

    Args:
        product_TT: the rollout of the layers below.
        weights_HTT: the layer's attention. What its sinks take is shared out in proportion.
    """
    mean_TT = weights_HTT.mean(0)
    mean_TT = mean_TT / mean_TT.sum(-1, keepdim=True)
    return (mean_TT @ product_TT + product_TT) / 2
