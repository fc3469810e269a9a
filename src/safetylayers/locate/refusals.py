"""Refused or not, for many candidate ranges: by generated text as in the paper, or from the opening's log-odds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from safetylayers.evaluate import PhraseJudge, Verdict
from safetylayers.evaluate.log_odds import log_odds
from safetylayers.locate.decision import Hits, Range
from safetylayers.models import Batch, ChatModel
from safetylayers.models.tokens import pad_left

GENERATED = 16
"""Tokens; 4 to 8 already show a refusal (section 3.3)."""


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

    def hits(self, candidates: Sequence[Range], alpha: float) -> Hits:
        """Return refused or not: [candidates, prompts]. One generation a candidate and prompt."""
        return np.stack([self._one(candidate, alpha) for candidate in candidates])

    def _one(self, candidate: Range, alpha: float) -> Hits:
        with self.model.scale(alpha, *candidate):
            return refused(self.model.generate(self.texts, max_new_tokens=GENERATED))


def refused(replies: Sequence[str]) -> Hits:
    """Return which replies are refusals by the paper's phrases."""
    verdicts = PhraseJudge().judge([""] * len(replies), replies)
    return np.array([verdict is Verdict.REFUSED for verdict in verdicts])


@dataclass(frozen=True)
class OddsCounter:
    """The fast way: are the opening's log-odds above a threshold that the unscaled model's text has calibrated.

    All candidates of a batch of prompts run together, each row with its own alphas, and start at the lowest layer that
    any of them scales: what lies below is computed once.
    """

    model: ChatModel
    texts: Sequence[str]
    openings: Sequence[str]
    threshold: float
    rows: int = 128

    def hits(self, candidates: Sequence[Range], alpha: float) -> Hits:
        """Return refused or not: [candidates, prompts]."""
        return np.asarray((self.log_odds(candidates, alpha) > self.threshold).numpy())

    def log_odds(self, candidates: Sequence[Range], alpha: float) -> Tensor:
        """Return the log-odds of opening with a refusal: float64 [candidates, prompts]."""
        logprobs = [self._opening(opening, candidates, alpha) for opening in self.openings]
        return log_odds(torch.logsumexp(torch.stack(logprobs), dim=0))

    def _opening(self, opening: str, candidates: Sequence[Range], alpha: float) -> Tensor:
        begun = self.model.tokenizer(opening, add_special_tokens=False).input_ids
        asked = self.model.tokenizer(list(self.texts), add_special_tokens=False).input_ids
        order = sorted(range(len(asked)), key=lambda index: len(asked[index]))
        size = max(1, self.rows // len(candidates))
        found = torch.empty(len(candidates), len(asked), dtype=torch.float64)
        for start in range(0, len(order), size):
            indices = order[start : start + size]
            batch = pad_left([[*asked[index], *begun] for index in indices], 0, self.model.device)
            found[:, indices] = self._batch(batch, len(begun), candidates, alpha)
        return found

    def _batch(self, batch: Batch, length: int, candidates: Sequence[Range], alpha: float) -> Tensor:
        """Run every candidate on one batch: [candidates, rows]."""
        lowest = min(first for first, _ in candidates)
        alphas = torch.ones(len(candidates), self.model.n_layers)
        for row, (first, last) in enumerate(candidates):
            alphas[row, first : last + 1] = alpha
        many = _repeat(batch, len(candidates))
        if lowest == 0:
            with self.model.scale(alphas.repeat_interleave(len(batch), dim=0)):
                return self.model.continuation_logprobs(many, length).view(len(candidates), -1)
        with self.model.capture([lowest - 1]) as below:
            self.model.next_token_logits(batch)
        hidden = below[lowest - 1].repeat(len(candidates), 1, 1)
        with self.model.scale(alphas.repeat_interleave(len(batch), dim=0)), self.model.resume_from(lowest, hidden):
            return self.model.continuation_logprobs(many, length).view(len(candidates), -1)


def _repeat(batch: Batch, times: int) -> Batch:
    return Batch(
        batch.input_ids.repeat(times, 1), batch.attention_mask.repeat(times, 1), batch.position_ids.repeat(times, 1)
    )


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
