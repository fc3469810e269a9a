"""The smallest strength at which candidates differ: found one by one, and by halves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from safetylayers.locate.decision import Hits, Range
from safetylayers.locate.strength import find_strength

PROMPTS = 100
CANDIDATES = [(2, 3), (2, 4), (2, 5)]
ABOVE = (1.05, 1.1, 1.15, 1.2, 1.25, 1.3)
BELOW = (0.95, 0.9, 0.85, 0.8, 0.75, 0.7)


@dataclass
class Differing:
    """Counts that differ from one alpha on, upwards and downwards."""

    up_from: float
    down_from: float
    asked: list[float] = field(default_factory=list)

    def hits(self, candidates: Sequence[Range], alpha: float) -> Hits:
        self.asked.append(alpha)
        step = 10 if alpha >= self.up_from or alpha <= self.down_from else 1
        counts = 20 + step * np.arange(len(candidates))
        return np.arange(PROMPTS) < counts[:, None]


@pytest.mark.parametrize("one_by_one", [True, False])
@pytest.mark.parametrize("down_first", [True, False])
@pytest.mark.parametrize(
    ("up", "down", "expected"),
    [*((alpha, 0, alpha) for alpha in ABOVE), *((9, alpha, alpha) for alpha in BELOW)],
)
def test_both_ways_find_the_first_strength_that_differs(
    up: float, down: float, expected: float, down_first: bool, one_by_one: bool
) -> None:
    tried, best = find_strength(Differing(up, down), CANDIDATES, down_first=down_first, one_by_one=one_by_one)
    assert tried[best][0].alpha == expected


def test_where_both_directions_differ_the_first_one_counts() -> None:
    for one_by_one in (True, False):
        tried, best = find_strength(Differing(1.1, 0.9), CANDIDATES, down_first=False, one_by_one=one_by_one)
        assert tried[best][0].alpha == 1.1
        tried, best = find_strength(Differing(1.1, 0.9), CANDIDATES, down_first=True, one_by_one=one_by_one)
        assert tried[best][0].alpha == 0.9


def test_halving_takes_at_most_three_sweeps_a_direction_and_repeats_none() -> None:
    for up in (*ABOVE, 9):
        counter = Differing(up, 0)
        find_strength(counter, CANDIDATES, down_first=False, one_by_one=False)
        assert len([alpha for alpha in counter.asked if alpha > 1]) <= 3
        assert len(counter.asked) == len(set(counter.asked))


@dataclass
class Slight:
    """Counts that never differ enough, most at one alpha."""

    most_at: float

    def hits(self, candidates: Sequence[Range], alpha: float) -> Hits:
        counts = 20 + (2 if alpha == self.most_at else 1) * np.arange(len(candidates))
        return np.arange(PROMPTS) < counts[:, None]


@pytest.mark.parametrize("most_at", [1.1, 0.75])
def test_where_nothing_differs_enough_the_strength_that_differs_most_decides(most_at: float) -> None:
    tried, best = find_strength(Slight(most_at), CANDIDATES, down_first=False, one_by_one=True)
    assert len(tried) == 12
    assert tried[best][0].alpha == most_at
