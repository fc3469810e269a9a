"""An ensemble of choice models: how sure a reward is, without believing in a normal posterior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from safetylayers.align.bayes import Array, Posterior, Scores
from safetylayers.errors import UsageError


@dataclass(frozen=True)
class Ensemble:
    """Modes of choice models, each fitted to choices drawn anew (the bootstrap; arXiv 1612.01474 for why ensembles)."""

    weights: Array
    """[members, F]"""

    @classmethod
    def fit(cls, differences: ArrayLike, *, members: int = 10, precision: float | None = None, seed: int = 0) -> Self:
        """Fit to choices, features of the chosen reply less those of the other [N, F].

        Raises:
            UsageError: there are fewer than two members, or no choice.
        """
        if members < 2:
            raise UsageError(f"{members} members tell no spread.", mend="Take two at least.")
        x_NF = np.atleast_2d(np.asarray(differences, dtype=float))
        chosen = Posterior.fit(x_NF, precision=precision).precision
        random = np.random.default_rng(seed)
        drawn = [random.multinomial(len(x_NF), np.full(len(x_NF), 1 / len(x_NF))) for _ in range(members)]
        return cls(np.stack([Posterior.fit(x_NF, precision=chosen, counts=counts).mean for counts in drawn]))

    def scores(self, features: ArrayLike) -> Scores:
        """Return the worth of features [N, F]: mean and standard deviation over the members."""
        worth_NM = np.atleast_2d(np.asarray(features, dtype=float)) @ self.weights.T
        return Scores(worth_NM.mean(axis=1), worth_NM.std(axis=1, ddof=1))

    def probability(self, differences: ArrayLike) -> Array:
        """Return P(first over second) [N] of differences [N, F]: the mean of what the members say."""
        x_NF = np.atleast_2d(np.asarray(differences, dtype=float))
        return np.asarray(expit(x_NF @ self.weights.T).mean(axis=1))
