"""Which token comes next, and how likely it was.

Temperature and nucleus (top-p, arXiv 1904.09751) are transformers' own. Each row draws from a generator of its own, so
that one seed gives one reply, whatever else is in the batch.

Shapes: B rows, N tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from safetylayers.errors import EngineError
from safetylayers.oversee.words import Sampling

COLDEST = 1e-5
"""Below this temperature the likeliest token is taken; logits divided by less would become infinite."""
NO_NUMBER = -1
CHUNK = 256
"""Tokens whose log-probabilities are computed at once."""


@dataclass(frozen=True)
class Draw:
    """How one row's tokens are drawn."""

    temperature: float
    top_p: float
    generator: torch.Generator | None
    """None takes the likeliest token."""

    @classmethod
    def of(cls, sampling: Sampling, device: torch.device) -> Draw:
        """Return what a request asks for; without a seed, every reply is another."""
        if sampling.temperature < COLDEST:
            return cls(0.0, 1.0, None)
        generator = torch.Generator(device)
        if sampling.seed is None:
            generator.seed()
        else:
            generator.manual_seed(sampling.seed % 2**64)
        return cls(sampling.temperature, sampling.top_p, generator)


def check(sampling: Sampling) -> None:
    """Make sure that tokens can be chosen as a request asks: what fails in a batch fails all its rows.

    Raises:
        EngineError: a number is out of its range.
    """
    if not (math.isfinite(sampling.temperature) and sampling.temperature >= 0):
        raise EngineError(f"A temperature of {sampling.temperature} makes no sense.", mend="Give 0 or more.")
    if not 0 <= sampling.top_p <= 1:
        raise EngineError(f"A top_p of {sampling.top_p} makes no sense.", mend="Give a share between 0 and 1.")
    if sampling.max_tokens < 0 or (sampling.logprobs or 0) < 0:
        raise EngineError("A number of tokens is below zero.", mend="Give 0 or more.")


class Likelihood(NamedTuple):
    """How likely a token was, and which were the likeliest in its place."""

    logprob: float
    top: list[tuple[int, float]]


def choose(logits_BV: Tensor, draws: Sequence[Draw]) -> list[int]:
    """Return each row's next token; `NO_NUMBER` where its logits are none."""
    best_B, ids_B = logits_BV.max(dim=-1)  # what is no number is higher than any
    sound_B = best_B.isfinite()
    groups: dict[tuple[float, float], list[int]] = defaultdict(list)
    for row, draw in enumerate(draws):
        if draw.generator:
            groups[draw.temperature, draw.top_p].append(row)
    for (temperature, top_p), rows in groups.items():
        # Drawing from what is no number ends the process on some devices: such rows draw from anything.
        usable_NV = torch.where(sound_B[rows, None], logits_BV[rows], 0.0).float()
        chances_NV = _warped(usable_NV, temperature, top_p).softmax(dim=-1)
        drawn = [
            torch.multinomial(p_V, 1, generator=draws[row].generator) for p_V, row in zip(chances_NV, rows, strict=True)
        ]
        ids_B = ids_B.index_copy(0, torch.tensor(rows, device=ids_B.device), torch.cat(drawn))
    ids: list[int] = torch.where(sound_B, ids_B, NO_NUMBER).tolist()
    return ids


def _warped(logits_NV: Tensor, temperature: float, top_p: float) -> Tensor:
    from transformers import TemperatureLogitsWarper, TopPLogitsWarper

    nothing = torch.empty(len(logits_NV), 0, dtype=torch.long)
    if temperature != 1.0:
        logits_NV = TemperatureLogitsWarper(temperature)(nothing, logits_NV)
    if top_p < 1.0:
        logits_NV = TopPLogitsWarper(top_p)(nothing, logits_NV)
    return logits_NV


def likelihoods(logits_NV: Tensor, ids: Sequence[int], count: int) -> list[Likelihood]:
    """Return how likely tokens were, at temperature 1 and before any choice, and the `count` likeliest."""
    found = []
    for start in range(0, len(ids), CHUNK):
        part = list(ids[start : start + CHUNK])
        logprobs_NV = logits_NV[start : start + CHUNK].float().log_softmax(dim=-1)
        chosen_N1 = logprobs_NV.gather(1, torch.tensor(part, device=logprobs_NV.device)[:, None])
        best = logprobs_NV.topk(min(count, logprobs_NV.shape[1]), dim=-1)
        rows = zip(chosen_N1[:, 0].tolist(), best.indices.tolist(), best.values.tolist(), strict=True)
        found += [Likelihood(chosen, list(zip(top, values, strict=True))) for chosen, top, values in rows]
    return found
