"""From hidden states to what rewards are linear in: standardised, reduced, and known for where it was seen before.

Shapes: N replies, F features, K components.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from safetylayers.align.bayes import Array
from safetylayers.align.features import Read
from safetylayers.errors import UsageError

COMPONENTS = 256
"""Of hidden states at most: a full covariance of them is still handled in a second."""
FAMILIAR = 0.98
"""Share of the replies seen that count as familiar."""


@dataclass(frozen=True)
class Reading:
    """A linear map of hidden states, fitted to replies without looking at choices."""

    mean: Array
    """[F]"""
    components: Array
    """[F, K]; what comes out has variance 1 in each direction, on the replies that it was fitted to."""
    spread: Array
    """[K]; standard deviations along the components, before they were taken out."""
    shrinkage: float
    """Share of the covariance that is replaced by the same variance in all directions (Ledoit and Wolf 2004)."""
    floor: float
    """That variance, by its share: what a direction has that no reply has gone into."""
    limit: float
    """Distance beyond which a reply is unfamiliar."""

    @classmethod
    def fit(cls, replies: Read, *, groups: Sequence[str] | None = None, components: int = COMPONENTS) -> Self:
        """Fit to replies; those of one group, such as a prompt's, stay in one half.

        The limit is set on replies that had no part in the directions (two halves in turn): where there are nearly as
        many components as replies, those that had a part look more alike than any new one.

        Raises:
            UsageError: there are fewer than four replies, or all are the same.
        """
        if len(replies.states) < 4:
            raise UsageError("Four replies are needed at least.", mend="Give more pairs.")
        named = list(groups) if groups else list(map(str, range(len(replies.states))))
        _, group_N = np.unique(named, return_inverse=True)
        halves = [Read(replies.states[group_N % 2 == half], replies.tokens[group_N % 2 == half]) for half in (0, 1)]
        if min(len(half.states) for half in halves) < 2:
            raise UsageError("Replies to more than one prompt are needed.", mend="Give more pairs.")
        distances = [cls._of(seen.states, components).distance(new) for seen, new in (halves, reversed(halves))]
        limit = float(np.quantile(np.concatenate(distances), FAMILIAR))
        return replace(cls._of(replies.states, components), limit=limit)

    @classmethod
    def _of(cls, x_NF: Array, components: int) -> Self:
        from sklearn.covariance import ledoit_wolf_shrinkage

        mean_F = x_NF.mean(axis=0)
        _, singular, directions_KF = np.linalg.svd(x_NF - mean_F, full_matrices=False)
        spread = singular / np.sqrt(len(x_NF) - 1)
        kept = min(components, int((spread > 1e-6 * spread[0]).sum())) if spread[0] > 0 else 0
        if not kept:
            raise UsageError("All replies look the same to the model.", mend="Give pairs whose replies differ.")
        # Contiguous, as it will be when it is read back: products of other layouts differ in the last bit.
        components_FK = np.ascontiguousarray((directions_KF[:kept] / spread[:kept, None]).T)
        shrinkage = float(ledoit_wolf_shrinkage(x_NF))
        floor = shrinkage * float(x_NF.var(axis=0).mean())
        return cls(mean_F, components_FK, spread[:kept], shrinkage, floor, float("inf"))

    def read(self, states_NF: Array) -> Array:
        """Return hidden states [N, F] as components [N, K]."""
        return np.asarray((states_NF - self.mean) @ self.components)

    def unfamiliar(self, replies: Read) -> list[bool]:
        """Return which replies are farther out than nearly all that were seen."""
        return [bool(far > self.limit) for far in self.distance(replies)]

    def distance(self, replies: Read) -> Array:
        """Return Mahalanobis distances [N] by a shrunk covariance (Ledoit and Wolf 2004).

        Directions that no reply seen has gone into count as well, by the variance that shrinkage gives them. The mean
        of many tokens strays less than that of few, so distances count by the root of their number.
        """
        along_NK = self.read(replies.states) * self.spread
        within_N = (along_NK**2 / ((1 - self.shrinkage) * self.spread**2 + self.floor)).sum(axis=1)
        beside_N = ((replies.states - self.mean) ** 2).sum(axis=1) - (along_NK**2).sum(axis=1)
        squared_N = within_N + np.maximum(beside_N, 0.0) / max(self.floor, 1e-12)
        return np.asarray(np.sqrt(replies.tokens * squared_N))
