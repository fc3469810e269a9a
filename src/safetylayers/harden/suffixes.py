"""Discrete attacks in the loop (R2D2, arXiv 2402.04249, section 5 and appendix A).

A pool of requests with suffixes persists through training. Each step takes some, lets a suffix optimiser improve them
against the model as it now is, and trains refusals on them; a fifth of the pool begins anew from time to time.

The optimiser here is a greedy coordinate gradient step (arXiv 2307.15043, algorithm 1) that looks at few candidates;
any other can take its place.

Shapes: B rows, S suffix tokens, V vocabulary, H hidden size.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from safetylayers.harden.laying import Laid, Pieces, lay
from safetylayers.harden.losses import toward
from safetylayers.harden.material import HarmfulRow
from safetylayers.harden.settings import RESET_SHARE, HardenSettings
from safetylayers.harden.step import Step, resist
from safetylayers.models.interventions import changed_output

if TYPE_CHECKING:
    from safetylayers.models import ChatModel


@dataclass(frozen=True)
class SuffixCase:
    """A request, its suffix as it now is, and the reply that an attacker wants: all as tokens."""

    before: list[int]
    suffix: list[int]
    after: list[int]
    wanted: list[int]

    def pieces(self, suffix: Sequence[int]) -> Pieces:
        """Return the row with another suffix."""
        return [*self.before, *suffix, *self.after], [], self.wanted


class SuffixOptimiser(Protocol):
    """Whatever makes suffixes better."""

    def improve(self, model: ChatModel, cases: Sequence[SuffixCase], rng: random.Random) -> list[list[int]]:
        """Return a suffix for each case, as long as it was and no worse; the model's parameters gather no gradient."""
        ...


@dataclass(frozen=True)
class CoordinateGradient:
    """One greedy coordinate gradient step."""

    candidates: int = 12
    """Suffixes that are tried for each case, each with one token exchanged."""
    best: int = 64
    """Tokens at each place that an exchange is drawn from, by the gradient."""

    def improve(self, model: ChatModel, cases: Sequence[SuffixCase], rng: random.Random) -> list[list[int]]:
        """Return the best of each case's suffix and its candidates."""
        promising_BSK = _promising(model, cases, self.best)
        tried = [
            [case.suffix, *(_exchanged(case.suffix, promising, rng) for _ in range(self.candidates))]
            for case, promising in zip(cases, promising_BSK.tolist(), strict=True)
        ]
        laid = lay([case.pieces(s) for case, row in zip(cases, tried, strict=True) for s in row], model)
        with torch.no_grad():
            scores = _likelihood(laid, model).view(len(cases), -1)
        return [row[int(score.argmax())] for row, score in zip(tried, scores, strict=True)]


def _exchanged(suffix: list[int], promising: list[list[int]], rng: random.Random) -> list[int]:
    place = rng.randrange(len(suffix))
    return [*suffix[:place], rng.choice(promising[place]), *suffix[place + 1 :]]


def _likelihood(laid: Laid, model: ChatModel) -> Tensor:
    """Return the mean log-likelihood of each row's reply: [B]."""
    logprobs_BR = laid.logprobs(model)
    return torch.where(laid.learnt_BR, logprobs_BR, 0.0).sum(dim=1) / laid.learnt_BR.sum(dim=1)


def _promising(model: ChatModel, cases: Sequence[SuffixCase], best: int) -> Tensor:
    """Return the tokens whose embeddings the gradient points to most, at each place of each suffix: [B, S, best]."""
    laid = lay([case.pieces(case.suffix) for case in cases], model)
    embeddings: torch.nn.Module = model.model.get_input_embeddings()
    weight_VH = embeddings.get_parameter("weight").detach()
    shift_BTH = torch.zeros(*laid.batch.input_ids.shape, weight_VH.shape[1], device=model.device, requires_grad=True)
    with changed_output(embeddings, lambda output: output + shift_BTH.to(output)):
        loss = toward(laid.logprobs(model), laid.learnt_BR)
    (gradient_BTH,) = torch.autograd.grad(loss, shift_BTH)
    ends = [laid.prompt_width - len(case.after) for case in cases]
    length = len(cases[0].suffix)
    gradient_BSH = torch.stack([gradient_BTH[row, end - length : end] for row, end in enumerate(ends)])
    worth_BSV = -(gradient_BSH.to(weight_VH) @ weight_VH.T)
    worth_BSV[..., [*model.tokenizer.all_special_ids]] = -torch.inf
    worth_BSV[..., len(model.tokenizer) :] = -torch.inf  # rows of the matrix that no token has
    return worth_BSV.topk(min(best, len(model.tokenizer)), dim=-1).indices


@dataclass
class Pool:
    """Cases that persist: which request, and its suffix."""

    rows: list[int]
    suffixes: list[list[int]]

    @classmethod
    def fresh(cls, settings: HardenSettings, rows: int, vocabulary: int, rng: random.Random) -> Pool:
        """Draw a new pool."""
        drawn = [rng.randrange(rows) for _ in range(settings.pool)]
        return cls(drawn, [_drawn(settings, vocabulary, rng) for _ in drawn])

    def begin_anew(self, settings: HardenSettings, rows: int, vocabulary: int, rng: random.Random) -> None:
        """Replace a share of the cases."""
        for place in rng.sample(range(len(self.rows)), max(1, round(RESET_SHARE * len(self.rows)))):
            self.rows[place] = rng.randrange(rows)
            self.suffixes[place] = _drawn(settings, vocabulary, rng)


def _drawn(settings: HardenSettings, vocabulary: int, rng: random.Random) -> list[int]:
    return [rng.randrange(vocabulary) for _ in range(settings.suffix_tokens)]


@dataclass
class Discrete:
    """Refusals behind suffixes that are improved as training goes on."""

    optimiser: SuffixOptimiser = field(default_factory=CoordinateGradient)
    pool: Pool | None = None
    name: str = "discrete"

    def state(self) -> dict[str, list[list[int]]]:
        """Return the pool as JSON has it."""
        return {"rows": [self.pool.rows], "suffixes": self.pool.suffixes} if self.pool else {}

    def restore(self, state: Mapping[str, list[list[int]]]) -> None:
        """Take up what `state` returned."""
        self.pool = Pool(list(state["rows"][0]), [list(suffix) for suffix in state["suffixes"]]) if state else None

    def loss(self, step: Step) -> Tensor:
        """Improve some of the pool's suffixes, and return the loss on them."""
        settings, material = step.run.settings, step.run.material
        sizes = (len(material.harmful), len(step.student.tokenizer))
        if self.pool is None:
            self.pool = Pool.fresh(settings, *sizes, step.rng)
        elif step.number % settings.reset_every == 0:
            self.pool.begin_anew(settings, *sizes, step.rng)
        places = step.rng.sample(range(len(self.pool.rows)), min(settings.batch_size, len(self.pool.rows)))
        rows = [material.harmful[self.pool.rows[place]] for place in places]
        for _ in range(settings.suffix_updates):
            cases = [_case(step, row, self.pool.suffixes[place]) for row, place in zip(rows, places, strict=True)]
            for place, suffix in zip(places, self.optimiser.improve(step.student, cases, step.rng), strict=True):
                self.pool.suffixes[place] = suffix
        pairs = [(row, self.pool.suffixes[place]) for row, place in zip(rows, places, strict=True)]
        refusing = [step.refusing(row, suffix) for row, suffix in pairs]
        return resist(step, lay([*refusing, *(step.complying(row, suffix) for row, suffix in pairs)], step.student))


def _case(step: Step, row: HarmfulRow, suffix: list[int]) -> SuffixCase:
    return SuffixCase(row.before, suffix, row.after, step.complying(row)[2])
