"""From refusal counts to a range: sweep, then choose (arXiv 2408.17003, section 3.3 and table 1).

Counts are not monotone, so nothing climbs hills. Scaling up (alpha > 1) strengthens the safety layers: the right bound
has the most refusals. Scaling down weakens them: it has the fewest. Of equal counts the narrower range wins.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from safetylayers.records import Record
from safetylayers.stats import Interval, percentile_interval, resample_indices

Range = tuple[int, int]
Hits = NDArray[np.bool_]


class Sweep(Record):
    """Refusals on borderline prompts with the projections of each candidate range scaled."""

    alpha: float
    candidates: tuple[Range, ...]
    """First and last layer of each, inclusive."""
    counts: tuple[int, ...]
    """Refusals with that candidate scaled."""
    total: int
    """Borderline prompts."""
    chosen: int
    """Index of the candidate that was chosen."""


def choose(candidates: list[Range], counts: list[int], alpha: float) -> int:
    """Return the index of the most refusals, or with alpha < 1 of the fewest; ties go to the narrower range."""
    sign = 1 if alpha > 1 else -1
    return max(
        range(len(candidates)), key=lambda index: (sign * counts[index], candidates[index][0] - candidates[index][1])
    )


def upper_candidates(onset: int, smoothing: int, layers: int) -> list[Range]:
    """Return the ranges of the upper-bound sweep: from the onset to two layers around the smoothing."""
    return [(onset, last) for last in range(max(onset, smoothing - 2), min(layers - 1, smoothing + 2) + 1)]


def lower_candidates(onset: int, last: int) -> list[Range]:
    """Return the ranges of the lower-bound sweep: from one layer above the onset to three below it."""
    return [(first, last) for first in range(min(last, onset + 1), max(0, onset - 3) - 1, -1)]


def make_sweep(candidates: list[Range], hits_CP: Hits, alpha: float) -> Sweep:
    """Count and choose.

    Args:
        candidates: the ranges.
        hits_CP: refused or not, a row a candidate, a column a prompt.
        alpha: what the projections were multiplied by.
    """
    counts = [int(row.sum()) for row in hits_CP]
    return Sweep(
        alpha=alpha,
        candidates=tuple(candidates),
        counts=tuple(counts),
        total=hits_CP.shape[1],
        chosen=choose(candidates, counts, alpha),
    )


def bound_interval(candidates: list[Range], hits_CP: Hits, alpha: float, side: int, seed: int) -> Interval:
    """Return the bootstrap interval over prompts of the chosen bound: `side` 0 the first layer, 1 the last."""
    bounds = []
    for drawn in resample_indices(hits_CP.shape[1], 1_000, seed):
        counts = hits_CP[:, drawn].sum(axis=1).tolist()
        bounds.append(candidates[choose(candidates, counts, alpha)][side])
    return percentile_interval(bounds)
