"""How much each value weighs, inferred from choices between replies whose scores in each value are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from safetylayers.align.bayes import Posterior
from safetylayers.errors import UsageError
from safetylayers.records import Record


class Weight(Record):
    """One value's weight."""

    mean: float
    low: float
    """95 % credible interval."""
    high: float


class ValueWeights(Record):
    """What choices say about values' weights, in the unit in which one more makes a choice e times as likely."""

    weights: dict[str, Weight]
    choices: int
    right: float
    """Share of the choices that these weights would have made."""

    def undecided(self) -> list[str]:
        """Return the values of which it is not even sure whether they count for or against a reply."""
        return [name for name, weight in self.weights.items() if weight.low < 0 < weight.high]


def infer_weights(chosen: Mapping[str, ArrayLike], rejected: Mapping[str, ArrayLike]) -> ValueWeights:
    """Infer weights from choices, by a Bayesian choice model on the values' scores.

    Args:
        chosen: value -> scores of the chosen replies, [N] each.
        rejected: the same of the others.

    Raises:
        UsageError: the two speak of different values, or there is no choice.
    """
    names: Sequence[str] = list(chosen)
    if set(names) != set(rejected) or not names:
        raise UsageError("Chosen and rejected replies have scores in different values.", mend="Score all in the same.")
    first, second = (
        np.stack([np.asarray(of[name], dtype=float) for name in names], axis=1) for of in (chosen, rejected)
    )
    posterior = Posterior.fit(first - second)
    found = zip(names, posterior.mean, posterior.intervals(), strict=True)
    weights = {name: Weight(mean=float(mean), low=low, high=high) for name, mean, (low, high) in found}
    right = float((posterior.scores(first - second).mean > 0).mean())
    return ValueWeights(weights=weights, choices=len(first), right=right)
