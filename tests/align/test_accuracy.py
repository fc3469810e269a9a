"""What is said of choices that were not learned from is counted right, in every part."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from safetylayers.align.accuracy import NAMELESS, by_group, measure, reliability
from safetylayers.align.bayes import calibration_error
from safetylayers.align.folds import hits, hold_out, prompt_keys, right
from safetylayers.prompts import Pair, PairSet
from safetylayers.records import Rate


def pairs(count: int, category: str = "", source: str = "") -> PairSet:
    every = (Pair.of(f"Question {n}?", f"a{n}", f"b{n}") for n in range(count))
    return PairSet("p", tuple(replace(pair, category=category, source=source) for pair in every))


def test_bins_hold_all_choices_and_their_gaps_add_up_to_the_calibration_error() -> None:
    p_N = np.random.default_rng(0).random(137)
    known = measure(p_N, pairs(137), {})
    assert sum(each.right.total for each in known.reliability) == 137
    assert sum(each.right.count for each in known.reliability) == known.accuracy.count == int((p_N > 0.5).sum())
    sure = np.maximum(p_N, 1 - p_N)
    assert known.calibration == pytest.approx(calibration_error(sure.tolist(), hits(p_N)))
    foreseen = [each.foreseen for each in known.reliability]
    assert foreseen == sorted(foreseen)


def test_an_honest_reward_has_no_gap_and_a_boastful_one_has() -> None:
    honest = np.where(np.arange(100) % 4 == 0, 0.25, 0.75)
    (known,) = reliability(honest, bins=1)
    assert (known.foreseen, known.right) == (0.75, Rate(count=75, total=100))
    (known,) = reliability(np.where(honest > 0.5, 0.99, 0.01), bins=1)
    assert known.foreseen == pytest.approx(0.99)
    assert known.right.value == 0.75


def test_fewer_choices_than_bins_fill_a_bin_each() -> None:
    assert [each.right.total for each in reliability(np.array([0.9, 0.6, 0.2]))] == [1, 1, 1]


def test_of_what_nothing_is_said_every_second_counts_in_the_rate_and_in_the_bins() -> None:
    p_N = np.array([0.5, 0.9, 0.5, 0.5, 0.1])
    assert hits(p_N) == [False, True, True, False, False]
    assert right(p_N) == Rate(count=2, total=5)


def test_groups_are_counted_apart_and_those_with_one_choice_are_shown() -> None:
    found = by_group(np.array([0.9, 0.2, 0.8, 0.7]), ["b", "b", "", "a"])
    assert list(found) == [NAMELESS, "a", "b"]
    assert found["b"] == Rate(count=1, total=2)
    assert found["a"].interval.low < 0.3
    assert by_group(np.array([0.9, 0.2]), ["", ""]) == {}


def test_categories_and_sources_are_recorded() -> None:
    known = measure(np.full(6, 0.8), pairs(6, "facts", "survey"), {"length": np.full(6, 0.1)})
    assert known.categories == {"facts": Rate(count=6, total=6)}
    assert known.sources == {"survey": Rate(count=6, total=6)}
    assert known.baselines == {"length": Rate(count=0, total=6)}


def test_a_fifth_of_the_prompts_is_held_out_whole() -> None:
    doubled = PairSet("p", pairs(50).pairs * 2)
    learned, held = hold_out(doubled, seed=3)
    assert (len(learned), len(held)) == (80, 20)
    assert not set(prompt_keys(learned)) & set(prompt_keys(held))
    assert hold_out(doubled, seed=3) == (learned, held)
