"""How strongly to scale: the smallest strength at which candidates differ (arXiv 2408.17003, section 3.3)."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np

from safetylayers.locate.decision import Hits, Range, Sweep, make_sweep
from safetylayers.locate.refusals import Counter

STEP = 0.05
STEPS = 6
"""In each direction: at 1.5 the paper's models write gibberish."""
ENOUGH_DEVIATION = 17 / 721
"""Standard deviation of a sweep's refusal rates at which alpha is strong enough: 15 to 20 of 721 prompts."""


def find_strength(
    counter: Counter, candidates: list[Range], *, down_first: bool, one_by_one: bool
) -> tuple[list[tuple[Sweep, Hits]], int]:
    """Find the first alpha at which a sweep's counts differ enough: upwards from 1, else downwards.

    Args:
        counter: of refusals.
        candidates: the ranges of a sweep.
        down_first: look below 1 before above it.
        one_by_one: try one strength after another, as the paper does; otherwise take it that counts differ more the
            farther alpha is from 1, and halve: two or three sweeps a direction in place of up to six.

    Returns:
        All sweeps with their hits, and the index of the one to decide on: of the first that differs enough, else of the
        one that differs most.
    """
    tried: dict[float, tuple[Sweep, Hits]] = {}

    def differs(alpha: float) -> bool:
        hits = counter.hits(candidates, alpha)
        tried[alpha] = make_sweep(candidates, hits, alpha), hits
        return _deviation(hits) >= ENOUGH_DEVIATION

    for sign in (-1, 1) if down_first else (1, -1):
        strengths = [round(1 + sign * step * STEP, 2) for step in range(1, STEPS + 1)]
        if one_by_one:
            found = next((alpha for alpha in strengths if differs(alpha)), None)
        else:
            found = next(iter(strengths[bisect_left(strengths, True, key=differs) :]), None)
        if found:
            return list(tried.values()), list(tried).index(found)
    return list(tried.values()), int(np.argmax([_deviation(hits) for _, hits in tried.values()]))


def _deviation(hits: Hits) -> float:
    return float(hits.mean(axis=1).std())
