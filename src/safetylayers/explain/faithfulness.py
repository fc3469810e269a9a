"""How far an explanation can be trusted: words are taken out, and the model is asked again.

Words are ordered by how much they push towards what the model does, and taken out (deletion) or put back (insertion)
a share at a time (arXiv 1806.07421); comprehensiveness and sufficiency are those of ERASER (arXiv 1911.03429), on the
same shares. Orders that are drawn at random are measured beside each, because what deletion alone does depends on the
prompt. Values are in the target's unit, from that of the prompt without words (0) towards what the whole prompt does.
Shapes: W words, F shares, D random orders.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from safetylayers.explain.saliency import Explained
from safetylayers.explain.target import values_of
from safetylayers.records import Record
from safetylayers.stats import Interval, percentile_interval

SHARES = 5
"""At most so many steps between no word and all words."""
ORDERS = 20
"""Random orders."""

Array = NDArray[np.float64]


class Faithfulness(Record):
    """What the model does where an explanation's words are taken out or put back."""

    shares: tuple[float, ...]
    """Of the words that were taken out or put back, 0 to 1."""
    deletion: tuple[float, ...]
    """Value at each share, strongest words first."""
    insertion: tuple[float, ...]
    random_deletion: tuple[float, ...]
    """Mean over random orders."""
    random_insertion: tuple[float, ...]
    comprehensiveness: float
    """Mean fall of the value by taking the strongest words out; more is better."""
    sufficiency: float
    """Mean fall of the value by keeping the strongest words alone; less is better."""
    gain: float
    """How much better than random orders, on average over deletion and insertion; above 0 is better."""
    gain_interval: Interval
    """Of the gain over the random orders, 95 %."""
    beaten: float
    """Share of the random orders that are worse than this one; equal ones count half."""
    range: float
    """The whole prompt's value less that of no word: where it is small, there is little to explain."""

    @property
    def can_be_trusted(self) -> bool:
        """Whether this order does better than nineteen of twenty random ones."""
        return self.beaten >= 0.95


class Measured:
    """A prompt on which explanations are measured; what they share is read once."""

    def __init__(self, given: Explained, *, orders: int = ORDERS, shares: int = SHARES, seed: int = 0) -> None:
        """Read the prompt, the prompt without words, and `orders` random orders of its words."""
        self._given, self._words = given, len(given.reading.words)
        steps = np.linspace(0, self._words, min(shares, self._words) + 1)
        self._counts = [round(step) for step in steps]
        whole, none = values_of(given.target, given.model, [given.reading.token_ids, self._keeping(())]).tolist()
        self.value, self.range, self._none = whole, whole - none, none
        self._towards = 1.0 if whole >= none else -1.0
        rng = random.Random(seed)  # noqa: S311 - not a secret
        drawn = [rng.sample(range(self._words), self._words) for _ in range(orders)]
        self._random_D2F = self._curves(drawn)

    def measure(self, words: Sequence[float]) -> Faithfulness:
        """Return how faithful scores of the words are.

        Args:
            words: a score for each word, positive where it raises the value.
        """
        # What a refused prompt's words did is to raise the value; an answered one's, to lower it.
        strongest = np.argsort(-self._towards * np.asarray(words), kind="stable").tolist()
        deletion_F, insertion_F = self._curves([strongest])[0]
        scores_D = _score(self._random_D2F)
        gains_D = _score(np.stack([deletion_F, insertion_F])[None])[0] - scores_D
        between = slice(1, -1) if len(deletion_F) > 2 else slice(None)
        random_2F = self._random_D2F.mean(0)
        return Faithfulness(
            shares=tuple(count / self._words for count in self._counts),
            deletion=tuple(deletion_F.tolist()),
            insertion=tuple(insertion_F.tolist()),
            random_deletion=tuple(random_2F[0].tolist()),
            random_insertion=tuple(random_2F[1].tolist()),
            comprehensiveness=float(abs(self.range) - deletion_F[between].mean()),
            sufficiency=float(abs(self.range) - insertion_F[between].mean()),
            gain=float(gains_D.mean()),
            gain_interval=percentile_interval(gains_D.tolist()),
            beaten=float(((gains_D > 0) + (gains_D == 0) / 2).mean()),
            range=self.range,
        )

    def _curves(self, orders: Sequence[Sequence[int]]) -> Array:
        """Return deletion's and insertion's values for each order: [orders, 2, F]."""
        kept = [self._keeping(order[count:]) for order in orders for count in self._counts]
        kept += [self._keeping(order[:count]) for order in orders for count in self._counts]
        distinct = list(dict.fromkeys(map(tuple, kept)))
        values = dict(zip(distinct, values_of(self._given.target, self._given.model, distinct).tolist(), strict=True))
        found = self._towards * np.array([values[tuple(tokens)] - self._none for tokens in kept])
        return found.reshape(2, len(orders), -1).transpose(1, 0, 2)

    def _keeping(self, words: Sequence[int]) -> list[int]:
        kept = set(words)
        return self._given.reading.without([n for n in range(self._words) if n not in kept])


def _score(curves_D2F: Array) -> Array:
    """Return how much sooner values fall by deletion and rise by insertion: half the area between the two, [D]."""
    found: Array = (curves_D2F[:, 1] - curves_D2F[:, 0]).mean(-1) / 2
    return found
