"""What in a prompt moved the number that is explained: a score for each token.

- `held-gradient`: gradient x input with norms' scales, attention's patterns and gates held (arXiv 2202.07304): one
  forward and one backward pass. See `held.py`.
- `gradient`: plain gradient x input (arXiv 1312.6034; as a product in arXiv 1605.01713).
- `integrated`: integrated gradients (arXiv 1703.01365) by Gauss and Legendre's rule, in batches, from the mean of all
  tokens' embeddings.
- `occlusion`: what taking a word's tokens out of the prompt changes (arXiv 1311.2901, for text arXiv 1612.08220).
- `random`: drawn, as a control.

"Input" is a token's embedding. Only the user's own tokens get scores, positive where they push towards refusal.
Shapes: N variants, T tokens, H hidden size, S steps.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from safetylayers.errors import UsageError
from safetylayers.explain.held import held
from safetylayers.explain.target import Target, embed, values_of, values_of_embedded
from safetylayers.explain.tokens import Reading
from safetylayers.records import Record

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

FEWEST_STEPS, MOST_STEPS = 25, 400
"""Of integrated gradients."""
CLOSE = 0.01
"""Completeness gap at which no more steps are needed."""
ROWS = 16
"""Variants that gradients are taken through at once."""


class Saliency(Record):
    """Scores of a prompt by one method."""

    method: str
    tokens: tuple[float, ...]
    """A score for each token of the rendered prompt; 0 for those of the template."""
    words: tuple[float, ...]
    """A score for each word of the prompt."""
    completeness_gap: float | None = None
    """|sum of scores - (value - the baseline's value)| as a share of the latter; for integrated gradients."""


@dataclass(frozen=True)
class Explained:
    """A prompt, the model that reads it, and the number that is explained."""

    model: ChatModel
    target: Target
    reading: Reading

    @property
    def own(self) -> slice:
        """The user's tokens."""
        return slice(self.reading.first, self.reading.last + 1)

    def is_own(self, place: int) -> bool:
        """Whether a token is the user's."""
        return self.reading.first <= place <= self.reading.last

    def embedded(self) -> tuple[Tensor, Tensor]:
        """Return the prompt's embeddings and the baseline's: [T, H] both, alike in the template's tokens."""
        given_TH = embed(self.model, self.reading.token_ids)
        baseline_TH = given_TH.clone()
        baseline_TH[self.own] = mean_embedding(self.model).to(given_TH)
        return given_TH, baseline_TH

    def saliency(self, method: str, tokens: Sequence[float], gap: float | None = None) -> Saliency:
        """Return the scores as a record."""
        return Saliency(method=method, tokens=tuple(tokens), words=self.reading.by_word(tokens), completeness_gap=gap)


def mean_embedding(model: ChatModel) -> Tensor:
    """Return the mean of all tokens' embeddings as the first layer gets them: float32 [H]."""
    size = model.model.get_input_embeddings().get_parameter("weight").shape[0]
    total, rows = torch.zeros(model.hidden_size, dtype=torch.float64), 8192
    for start in range(0, size, rows):
        total += embed(model, range(start, min(start + rows, size))).double().sum(0).cpu()
    return (total / size).float()


def gradient(given: Explained) -> Saliency:
    """Return gradient x input: one forward and one backward pass."""
    return given.saliency("gradient", _times_input(given))


def held_gradient(given: Explained) -> Saliency:
    """Return gradient x input with all multipliers held (`held.py`): one forward and one backward pass.

    Raises:
        UsageError: the model's attention is of a kind that cannot be handled.
    """
    with held(given.model):
        return given.saliency("held-gradient", _times_input(given))


def _times_input(given: Explained) -> list[float]:
    here_TH = embed(given.model, given.reading.token_ids)
    scores_T = (_gradients(given, here_TH[None])[0] * here_TH.double()).sum(-1)
    return [score if given.is_own(place) else 0.0 for place, score in enumerate(scores_T.tolist())]


def integrated(given: Explained, *, steps: int | None = None) -> Saliency:
    """Return integrated gradients along the straight line from the baseline.

    Args:
        given: what is explained.
        steps: points at which gradients are taken; by itself 25, and twice as many until the completeness gap is under
            1 % or there are 400.

    Raises:
        UsageError: there are no steps.
    """
    if steps is not None:
        return _integrated(given, steps)
    tried = FEWEST_STEPS
    found = _integrated(given, tried)
    while (found.completeness_gap or 0) > CLOSE and tried < MOST_STEPS:
        tried *= 2
        found = _integrated(given, tried)
    return found


def _integrated(given: Explained, steps: int) -> Saliency:
    if steps < 1:
        raise UsageError(f"{steps} steps make no sense.", mend=f"Use {FEWEST_STEPS}, or leave it out.")
    here_TH, baseline_TH = given.embedded()
    points, weights = np.polynomial.legendre.leggauss(steps)
    total_TH = torch.zeros_like(here_TH, dtype=torch.float64)
    for start in range(0, steps, ROWS):
        share_S = torch.tensor((points[start : start + ROWS] + 1) / 2, device=here_TH.device)
        line_STH = baseline_TH + share_S.to(here_TH.dtype)[:, None, None] * (here_TH - baseline_TH)
        weight_S = torch.tensor(weights[start : start + ROWS] / 2, device=here_TH.device)
        total_TH += torch.einsum("s,sth->th", weight_S, _gradients(given, line_STH))
    tokens_T = (total_TH * (here_TH - baseline_TH).double()).sum(-1)
    with torch.inference_mode():
        value, empty = values_of_embedded(given.target, given.model, torch.stack([here_TH, baseline_TH])).tolist()
    gap = abs(float(tokens_T.sum()) - (value - empty)) / max(abs(value - empty), 1e-9)
    return given.saliency("integrated", tokens_T.tolist(), gap)


def occlusion(given: Explained) -> Saliency:
    """Return by how much the value falls when a word is taken out; each of its tokens gets an even share."""
    reading = given.reading
    variants = [list(reading.token_ids), *(reading.without([n]) for n in range(len(reading.words)))]
    values = values_of(given.target, given.model, variants)
    fall_W = (values[0] - values[1:]).tolist()
    tokens = [0.0] * len(reading.token_ids)
    for word, fall in zip(reading.words, fall_W, strict=True):
        places = range(word.first, word.last + 1)
        for place in places:
            tokens[place] += fall / len(places)
    return Saliency(method="occlusion", tokens=tuple(tokens), words=tuple(fall_W))


def drawn(given: Explained, *, seed: int = 0) -> Saliency:
    """Return scores that are drawn, as a control; for each prompt anew, so that no place is favoured in all of them."""
    rng = random.Random(f"{seed} {given.reading.prompt}")  # noqa: S311 - not a secret
    tokens = [0.0] * len(given.reading.token_ids)
    tokens[given.own] = [rng.gauss(0, 1) for _ in tokens[given.own]]
    return given.saliency("random", tokens)


METHODS: Mapping[str, Callable[[Explained], Saliency]] = {
    "held-gradient": held_gradient,
    "gradient": gradient,
    "integrated": integrated,
    "occlusion": occlusion,
    "random": drawn,
}
"""By the names that commands take."""
DEFAULT = "held-gradient"
"""More faithful on the practice model than integrated gradients, for a twentieth of their passes
(docs/concepts/explaining.md)."""


def _gradients(given: Explained, embedded_NTH: Tensor) -> Tensor:
    """Return the value's gradient at each variant: float64 [N, T, H]."""
    leaf_NTH = embedded_NTH.detach().requires_grad_()
    values_N = values_of_embedded(given.target, given.model, leaf_NTH)
    (found_NTH,) = torch.autograd.grad(values_N.sum(), leaf_NTH)
    return found_NTH.double()
