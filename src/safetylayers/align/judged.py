"""Scores of replies, a value each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from safetylayers.align.accuracy import OVERALL
from safetylayers.align.asked import refuse_floors
from safetylayers.align.bayes import Scores
from safetylayers.errors import UsageError
from safetylayers.prompts.values import Values


@dataclass(frozen=True)
class Judged:
    """Scores of replies."""

    values: dict[str, Scores]
    """By value."""
    unfamiliar: list[bool]
    """Replies unlike those that were learned from: their intervals cannot be relied on."""

    def total(self, values: Values | None = None) -> Scores:
        """Return one reward, which may be compared between replies to one prompt.

        It is the weighted sum of a values file; without one, what was learned of the reply as a whole, or where
        nothing was, the sum of all values. The deviation is that of the sum, values taken for independent.

        Raises:
            UsageError: the file names a value that was not learned, or has floors: choices tell no absolute score.
        """
        if values is not None:
            refuse_floors(values)
        weights = values.weights if values else self._all()
        if missing := sorted(set(weights) - set(self.values)):
            raise UsageError(
                f"The reward has not learned {', '.join(missing)}.",
                mend=f"It knows: {', '.join(self.values)}. Give pairs whose 'value' names the others.",
            )
        mean = sum(weight * self.values[name].mean for name, weight in weights.items())
        variance = sum((weight * self.values[name].deviation) ** 2 for name, weight in weights.items())
        return Scores(np.asarray(mean), np.sqrt(variance))

    def _all(self) -> dict[str, float]:
        return {OVERALL: 1.0} if OVERALL in self.values else dict.fromkeys(self.values, 1.0)
