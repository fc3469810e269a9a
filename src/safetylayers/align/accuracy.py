"""How well choices are foreseen that were not learned from: how many, of what kind, and how honest probabilities are.

Shapes: N choices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import Field

from safetylayers.align.bayes import Array
from safetylayers.align.folds import hits, right
from safetylayers.prompts.pairs import PairSet
from safetylayers.records import Rate, Record

OVERALL = "overall"
"""Value of choices that name none."""
BINS = 10
NAMELESS = "(none)"
"""Stands for choices without a category or a source where others have one."""


class Bin(Record):
    """Choices that were foreseen about equally surely."""

    foreseen: float
    """Mean probability of the reply that was expected to be chosen: 0.5 to 1."""
    right: Rate
    """Choices that went as expected; an honest reward has as many as it foresaw."""


class Accuracy(Record):
    """What is made of choices that were not learned from."""

    accuracy: Rate
    calibration: float
    """Expected calibration error: how far, on average over the choices, what was foreseen is from what came true."""
    reliability: tuple[Bin, ...] = ()
    """By how sure the choices were, equally many in each."""
    categories: dict[str, Rate] = Field(default_factory=dict)
    """Accuracy by category, however few choices one has; empty where no choice has one."""
    sources: dict[str, Rate] = Field(default_factory=dict)
    """The same by source."""
    baselines: dict[str, Rate] = Field(default_factory=dict)
    """Choices that the replies' lengths, and a bag of their words, tell."""


def value_names(pairs: PairSet) -> list[str]:
    """Return what each choice is about."""
    return [pair.value or OVERALL for pair in pairs]


def measure(p_N: Array, pairs: PairSet, baselines: Mapping[str, Array]) -> Accuracy:
    """Return how well choices were foreseen.

    Args:
        p_N: probability of each choice.
        pairs: the choices.
        baselines: name to its probabilities of the same choices.
    """
    bins = reliability(p_N)
    off = sum(each.right.total * abs(each.foreseen - each.right.value) for each in bins)
    return Accuracy(
        accuracy=right(p_N),
        calibration=off / len(p_N),
        reliability=bins,
        categories=by_group(p_N, [pair.category for pair in pairs]),
        sources=by_group(p_N, [pair.source for pair in pairs]),
        baselines={name: right(p) for name, p in baselines.items()},
    )


def reliability(p_N: Array, bins: int = BINS) -> tuple[Bin, ...]:
    """Return what came true of what was foreseen, equally many in each bin (arXiv 1706.04599, section 2)."""
    sure_N, hit_N = np.maximum(p_N, 1 - p_N), np.array(hits(p_N))
    parts = np.array_split(np.argsort(sure_N, kind="stable"), bins)
    return tuple(
        Bin(foreseen=float(sure_N[part].mean()), right=Rate.of(hit_N[part].tolist())) for part in parts if len(part)
    )


def by_group(p_N: Array, names: Sequence[str]) -> dict[str, Rate]:
    """Return how many choices were told in each named group, in the order of names; nothing where none is named."""
    if not any(names):
        return {}
    told = np.array(hits(p_N))
    named = np.array([name or NAMELESS for name in names])
    return {name: Rate.of(told[named == name].tolist()) for name in sorted(set(named.tolist()))}
