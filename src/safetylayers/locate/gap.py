"""Where the angular gap opens and where its growth first smooths out: a stated rule in place of the paper's eye.

The rule looks at growth over a starting level, not at the sign: where normal prompts differ more among themselves than
from malicious ones the raw gap starts below zero.

1. Starting level: zero, the gap before the first layer, since all prompts end in the same token; or the gap's mean over
   the first fifth of the layers (at least one) where that is lower.
2. Growth at a layer: its gap less the starting level, degrees. The peak is the largest growth.
3. There is a gap if the peak reaches `LEAST_GROWTH` and exceeds the peaks of 99 % of label shufflings of the same
   prompts: growth that shuffled labels also show is noise.
4. Onset: the first layer of the steepest rise, that is, of the unbroken run of layers up to the steepest one whose
   increments reach `RISING` of the steepest increment. The first layer's increment is its growth.
5. First smoothing: the first layer at or after the steepest one whose next increment falls below `RISING` of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from safetylayers.locate.curves import Floats
from safetylayers.records import Record

LEAST_GROWTH = 5.0
"""Degrees."""
RISING = 0.25
"""Share of the steepest increment that still counts as rising."""
SHUFFLINGS = 200
NULL_QUANTILE = 0.99


class Gap(Record):
    """The angular gap, its growth, and the first range that they suggest."""

    degrees: tuple[float, ...]
    """Mean angle N-M less mean angle N-N, one value a layer."""
    deviation: tuple[float, ...]
    """Standard deviation over bootstrap draws of prompts."""
    peak_growth: float
    """Degrees over the starting level."""
    null_growth: float
    """Degrees that 99 % of label shufflings stay below."""
    onset: int
    """First layer of the steepest rise."""
    smoothing: int
    """Layer after which growth first smooths out."""

    @property
    def opens(self) -> bool:
        """Whether there is a gap at all."""
        return self.peak_growth >= LEAST_GROWTH and self.peak_growth > self.null_growth


def find_gap(degrees_L: Floats, bootstrap_BL: Floats, shuffled_BL: Floats) -> Gap:
    """Apply the rule.

    Args:
        degrees_L: the gap at each layer.
        bootstrap_BL: gaps of resampled prompts.
        shuffled_BL: gaps under shuffled labels.
    """
    onset, smoothing = rise(degrees_L)
    return Gap(
        degrees=tuple(degrees_L.tolist()),
        deviation=tuple(bootstrap_BL.std(axis=0).tolist()),
        peak_growth=float(growth(degrees_L).max()),
        null_growth=float(np.quantile(growth(shuffled_BL).max(axis=-1), NULL_QUANTILE)),
        onset=onset,
        smoothing=smoothing,
    )


def growth(degrees: Floats) -> Floats:
    """Return the gap over its starting level; layers are the last axis."""
    early = degrees[..., : max(1, degrees.shape[-1] // 5)].mean(axis=-1, keepdims=True)
    return np.asarray(degrees - np.minimum(0, early))


def rise(degrees_L: Floats | Sequence[float]) -> tuple[int, int]:
    """Return the onset and the first smoothing of a gap."""
    increments = np.diff(growth(np.asarray(degrees_L)), prepend=0)
    steepest = int(increments.argmax())
    least = RISING * increments[steepest]
    onset = steepest
    while onset > 0 and increments[onset - 1] >= least:
        onset -= 1
    smoothing = steepest
    while smoothing + 1 < len(increments) and increments[smoothing + 1] >= least:
        smoothing += 1
    return onset, smoothing
