"""The logit lens: what the model would say if each layer were its last one (nostalgebraist, 2020; arXiv 2303.08112).

Early layers do not write in the head's terms, so what the lens reads there is a reading and no decision.
Shapes: L layers, H hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safetylayers.evaluate.log_odds import log_odds
from safetylayers.records import Record

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

TOP = 5
"""Tokens a layer."""


class Likely(Record):
    """A token that could come next."""

    text: str
    probability: float


class Lens(Record):
    """What each layer would say next."""

    refusal_log_odds: tuple[float, ...]
    """At each layer, that the next token is one by which refusals open, against all others."""
    top: tuple[tuple[Likely, ...], ...]
    """The likeliest tokens at each layer."""


def read_out(model: ChatModel, hidden_NH: Tensor) -> Tensor:
    """Return the logits that the final norm and the head make of hidden states: float32 [N, V]. One pass of those."""
    batch = model.batch_of([[0]] * len(hidden_NH))
    hidden_N1H = hidden_NH[:, None].to(model.device, model.dtype)
    with torch.inference_mode(), model.resume_from(model.n_layers, hidden_N1H):
        return model.logits(batch, last=1)[:, -1].float()


def lens(model: ChatModel, hidden_LH: Tensor, first_tokens: Sequence[int]) -> Lens:
    """Return what each layer would say next.

    Args:
        model: whose final norm and head read.
        hidden_LH: the output of each layer at the prompt's last token.
        first_tokens: by which refusals open.
    """
    logprobs_LV = read_out(model, hidden_LH).double().log_softmax(-1)
    odds_L = log_odds(logprobs_LV[:, list(first_tokens)].logsumexp(-1))
    likely = logprobs_LV.topk(min(TOP, logprobs_LV.shape[1]), dim=-1)
    return Lens(
        refusal_log_odds=tuple(odds_L.tolist()),
        top=tuple(
            tuple(
                Likely(text=model.tokenizer.decode([token]), probability=probability)
                for token, probability in zip(tokens, probabilities, strict=True)
            )
            for tokens, probabilities in zip(likely.indices.tolist(), likely.values.exp().tolist(), strict=True)
        ),
    )
