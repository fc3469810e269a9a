"""The decision, on the paper's published sweeps."""

from __future__ import annotations

import numpy as np
import pytest

from safetylayers.locate.decision import bound_interval, choose, lower_candidates, make_sweep, upper_candidates

# arXiv 2408.17003, table 1: alpha, upper sweep (first layer, last layers, counts), lower sweep (first layers, counts).
PUBLISHED = {
    "Llama-3": (1.2, 7, range(10, 15), [272, 241, 283, 266, 256], range(8, 3, -1), [334, 283, 371, 358, 223], (6, 12)),
    "Llama-2": (1.15, 9, range(12, 17), [187, 227, 237, 218, 219], range(8, 3, -1), [263, 268, 297, 189, 202], (6, 14)),
    "gemma": (1.1, 8, range(9, 14), [310, 335, 368, 343, 326], range(8, 3, -1), [368, 371, 407, 404, 323], (6, 11)),
    "Phi-3": (0.8, 11, range(13, 18), [209, 190, 149, 181, 189], range(13, 8, -1), [237, 182, 149, 177, 163], (11, 15)),
}


@pytest.mark.parametrize("model", PUBLISHED)
def test_the_published_ranges_follow_from_the_published_counts(model: str) -> None:
    alpha, first, lasts, upper_counts, firsts, lower_counts, expected = PUBLISHED[model]
    uppers = [(first, last) for last in lasts]
    _, last = uppers[choose(uppers, upper_counts, alpha)]
    lowers = [(start, last) for start in firsts]
    assert lowers[choose(lowers, lower_counts, alpha)] == expected


def test_of_equal_counts_the_narrower_range_wins() -> None:
    candidates = [(3, 5), (3, 6), (3, 4)]
    assert choose(candidates, [9, 9, 9], 1.2) == 2
    assert choose(candidates, [9, 9, 9], 0.8) == 2


def test_candidates_stay_within_the_model() -> None:
    assert upper_candidates(2, 3, 5) == [(2, 2), (2, 3), (2, 4)]
    assert lower_candidates(1, 4) == [(2, 4), (1, 4), (0, 4)]
    assert lower_candidates(4, 4) == [(4, 4), (3, 4), (2, 4), (1, 4)]


def test_a_clear_choice_has_a_narrow_interval_and_a_toss_up_a_wide_one() -> None:
    candidates = [(2, 4), (2, 5), (2, 6)]
    clear = np.zeros((3, 100), dtype=bool)
    clear[1, :60] = True
    assert bound_interval(candidates, clear, 1.2, 1, seed=0) == (5, 5)
    even = np.zeros((3, 100), dtype=bool)
    even[0, :50] = even[2, 50:] = True
    assert bound_interval(candidates, even, 1.2, 1, seed=0) == (4, 6)


def test_a_sweep_counts_its_hits() -> None:
    hits = np.array([[True, False, False], [True, True, False]])
    sweep = make_sweep([(1, 2), (1, 3)], hits, 1.1)
    assert (sweep.counts, sweep.total, sweep.chosen) == ((1, 2), 3, 1)
