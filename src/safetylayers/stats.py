"""Intervals. Every rate the project reports carries one."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

DRAWS = 2_000
LEVEL = 0.95


class Interval(NamedTuple):
    """A confidence interval, both ends inclusive."""

    low: float
    high: float


def wilson(count: int, total: int, level: float = LEVEL) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927). Of nothing, nothing is known: [0, 1].

    Raises:
        ValueError: `count` is not within 0..`total`.
    """
    if not 0 <= count <= total:
        raise ValueError(f"{count} of {total} is not a proportion")
    if total == 0:
        return Interval(0.0, 1.0)
    from scipy.stats import binomtest

    found = binomtest(count, total).proportion_ci(level, method="wilson")
    return Interval(float(found.low), float(found.high))


def newcombe(count: int, total: int, other: int, other_total: int, level: float = LEVEL) -> Interval:
    """Interval of the second proportion less the first, of independent samples (Newcombe 1998, method 10).

    Raises:
        ValueError: a count is not within 0..its total, or a total is 0.
    """
    if not (total and other_total):
        raise ValueError("a proportion of nothing differs from none")
    first, second = count / total, other / other_total
    (low, high), (other_low, other_high) = wilson(count, total, level), wilson(other, other_total, level)
    difference = second - first
    return Interval(
        difference - math.hypot(second - other_low, high - first),
        difference + math.hypot(other_high - second, first - low),
    )


def resample_indices(size: int, draws: int, seed: int) -> NDArray[np.int64]:
    """`draws` bootstrap samples of `size` items, with replacement: indices, [draws, size]."""
    return np.random.default_rng(seed).integers(0, size, size=(draws, size))


def percentile_interval(values: ArrayLike, level: float = LEVEL) -> Interval:
    """The middle `level` of `values`: a bootstrap percentile interval (Efron and Tibshirani 1993, ch. 13)."""
    tail = (1 - level) / 2
    low, high = np.quantile(np.asarray(values, dtype=float), [tail, 1 - tail])
    return Interval(float(low), float(high))


def bootstrap_mean(values: ArrayLike, *, draws: int = DRAWS, seed: int = 0, level: float = LEVEL) -> Interval:
    """Bootstrap percentile interval of a mean.

    Raises:
        ValueError: there are no values.
    """
    sample = np.asarray(values, dtype=float)
    if sample.size == 0:
        raise ValueError("a mean of no values has no interval")
    means = sample[resample_indices(sample.size, draws, seed)].mean(axis=1)
    return percentile_interval(means, level)


def paired_bootstrap(
    before: ArrayLike, after: ArrayLike, *, draws: int = DRAWS, seed: int = 0, level: float = LEVEL
) -> Interval:
    """Interval of mean(after) - mean(before) where both were measured on the same items, in the same order.

    Raises:
        ValueError: the two differ in length, or are empty.
    """
    first, second = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
    if first.shape != second.shape:
        raise ValueError(f"paired samples differ in shape: {first.shape} and {second.shape}")
    return bootstrap_mean(second - first, draws=draws, seed=seed, level=level)


def bootstrap_auroc(
    negative: ArrayLike, positive: ArrayLike, *, draws: int = 500, seed: int = 0, level: float = LEVEL
) -> tuple[float, Interval]:
    """Area under the ROC curve (Hanley and McNeil 1982) with its bootstrap percentile interval.

    Raises:
        ValueError: there are no positives, or no negatives.
    """
    below, above = np.sort(np.asarray(negative, dtype=float)), np.asarray(positive, dtype=float)
    if not (below.size and above.size):
        raise ValueError("an area under the curve needs positives and negatives")
    rng = np.random.default_rng(seed)
    drawn = [_auroc(np.sort(rng.choice(below, below.size)), rng.choice(above, above.size)) for _ in range(draws)]
    return _auroc(below, above), percentile_interval(drawn, level)


def _auroc(ordered: NDArray[np.float64], above: NDArray[np.float64]) -> float:
    """Share of pairs in which the positive is higher, ties counted half; the negatives come sorted."""
    lower = np.searchsorted(ordered, above, side="left")
    ties = np.searchsorted(ordered, above, side="right") - lower
    return float((lower + ties / 2).mean() / ordered.size)
