"""Refused or not, for many candidate ranges: by generated text as in the paper, or from the opening's log-odds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from safetylayers.evaluate import PhraseJudge, Verdict
from safetylayers.evaluate.log_odds import log_odds
from safetylayers.locate.branching import Stretch, branch, finish, run_stretch
from safetylayers.locate.decision import Hits, Range
from safetylayers.models import Batch, ChatModel
from safetylayers.models.batching import run_batched
from safetylayers.models.tokens import pad_left

MOST_KEPT = 2**30
"""Bytes of hidden states kept between sweeps."""


class Counter(Protocol):
    """Tells which prompts are refused while a range of layers is scaled."""

    def hits(self, candidates: Sequence[Range], alpha: float) -> Hits:
        """Return refused or not: [candidates, prompts]."""
        ...


@dataclass(frozen=True)
class TextCounter:
    """The paper's way: generate under each candidate and look for refusal phrases."""

    model: ChatModel
    texts: Sequence[str]
    tokens: int
    """To generate."""

    def hits(self, candidates: Sequence[Range], alpha: float) -> Hits:
        """Return refused or not: [candidates, prompts]. One generation a candidate and prompt."""
        return np.stack([self._one(candidate, alpha) for candidate in candidates])

    def _one(self, candidate: Range, alpha: float) -> Hits:
        with self.model.scale(alpha, *candidate):
            return refused(self.model.generate(self.texts, max_new_tokens=self.tokens))


def refused(replies: Sequence[str]) -> Hits:
    """Return which replies are refusals by the paper's phrases."""
    verdicts = PhraseJudge().judge([""] * len(replies), replies)
    return np.array([verdict is Verdict.REFUSED for verdict in verdicts])


@dataclass
class OddsCounter:
    """The fast way: are the opening's log-odds above a threshold that the unscaled model's text has calibrated.

    All candidates run together and share whatever they scale alike (see `branching`); what lies below the first scaled
    layer is kept from one alpha to the next. Openings that differ in their last token alone share a pass.
    """

    model: ChatModel
    texts: Sequence[str]
    openings: Sequence[str]
    threshold: float
    _below: dict[tuple[int, tuple[int, ...], tuple[int, ...]], Tensor] = field(default_factory=dict)
    """Layer, prefix and rows -> hidden states that no alpha has touched."""

    def hits(self, candidates: Sequence[Range], alpha: float) -> Hits:
        """Return refused or not: [candidates, prompts]."""
        return np.asarray((self.log_odds(candidates, alpha) > self.threshold).numpy())

    def log_odds(self, candidates: Sequence[Range], alpha: float) -> Tensor:
        """Return the log-odds of opening with a refusal, of distinct candidates: float64 [candidates, prompts]."""
        begun: dict[tuple[int, ...], list[int]] = {}
        for opening in self.openings:
            *prefix, last = self.model.tokenizer(opening, add_special_tokens=False).input_ids
            begun.setdefault(tuple(prefix), []).append(last)
        plan = branch(candidates, alpha, self.model.n_layers)
        logprobs = [self._openings(prefix, lasts, plan) for prefix, lasts in begun.items()]
        return log_odds(torch.logsumexp(torch.cat(logprobs, dim=-1), dim=-1))

    def _openings(self, prefix: tuple[int, ...], lasts: Sequence[int], plan: Sequence[Stretch]) -> Tensor:
        """Return log P of the openings that begin with `prefix`: [candidates, prompts, openings]."""
        asked = self.model.tokenizer(list(self.texts), add_special_tokens=False).input_ids

        def work(indices: list[int]) -> list[Tensor]:
            batch = pad_left([[*asked[index], *prefix] for index in indices], 0, self.model.device)
            logprobs = self._run(batch, plan, prefix, tuple(indices))
            opened = logprobs[:, :, -1, list(lasts)]
            for place, token in enumerate(prefix):
                opened = opened + logprobs[:, :, place, token, None]
            return list(opened.cpu().unbind(dim=1))

        size = max(1, self.model.batch_size // len(plan[-1].alphas_GL))
        return torch.stack(run_batched(list(map(len, asked)), size, work, what="log-odds"), dim=1)

    def _run(self, batch: Batch, plan: Sequence[Stretch], prefix: tuple[int, ...], rows: tuple[int, ...]) -> Tensor:
        """Run every candidate on one batch: log P after the prompt and after each token of the prefix, [C, B, T, V]."""
        below: Tensor | None = None
        for stretch in plan[:-1]:
            key = (stretch.last, prefix, rows)
            if stretch.is_unscaled and key in self._below:
                below = self._below[key]
                continue
            below = run_stretch(self.model, batch, stretch, below)
            if stretch.is_unscaled and below.nbytes * len(self.texts) <= MOST_KEPT * len(rows):
                self._below[key] = below
        return finish(self.model, batch, plan[-1], below, len(prefix) + 1)


def calibrate(odds: Tensor, is_refusal: Hits) -> float:
    """Return the threshold at which log-odds agree best with the text; of equal ones, the middle of the widest room."""
    values = np.sort(odds.numpy())
    edges = np.concatenate([[values[0] - 2.0], values, [values[-1] + 2.0]])
    middles = (edges[1:] + edges[:-1]) / 2
    agreement = [
        (((odds.numpy() > middle) == is_refusal).sum(), width)
        for middle, width in zip(middles, np.diff(edges), strict=True)
    ]
    return float(middles[max(range(len(middles)), key=lambda index: agreement[index])])
