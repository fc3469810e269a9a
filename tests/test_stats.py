"""Intervals: known values where there are published ones, properties elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetylayers.stats import bootstrap_mean, newcombe, paired_bootstrap, percentile_interval, resample_indices, wilson

finite = st.floats(-1e6, 1e6)
samples = st.lists(finite, min_size=1, max_size=30)


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [
        # Newcombe 1998, Statistics in Medicine 17, table I, method 3 (the score method without continuity correction).
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_intervals(count: int, total: int, low: float, high: float) -> None:
    assert wilson(count, total) == pytest.approx((low, high), abs=5e-5)


def test_wilson_of_nothing_knows_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("count", "total"), [(-1, 5), (6, 5), (1, 0)])
def test_wilson_refuses_what_is_no_proportion(count: int, total: int) -> None:
    with pytest.raises(ValueError, match="not a proportion"):
        wilson(count, total)


@given(st.integers(1, 500).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_wilson_holds_the_proportion_and_mirrors_its_complement(pair: tuple[int, int]) -> None:
    count, total = pair
    low, high = wilson(count, total)
    assert 0 <= low <= count / total + 1e-12
    assert count / total - 1e-12 <= high <= 1
    mirrored = wilson(total - count, total)
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((low, high), abs=1e-9)


def test_a_higher_level_widens_the_interval() -> None:
    narrow, wide = wilson(20, 50, 0.8), wilson(20, 50, 0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


@given(samples, st.integers(0, 5))
def test_bootstrap_lies_within_the_samples_range(values: list[float], seed: int) -> None:
    low, high = bootstrap_mean(values, draws=50, seed=seed)
    slack = 1e-9 * max(1.0, *map(abs, values))
    assert min(values) - slack <= low <= high <= max(values) + slack


@given(samples)
def test_one_seed_gives_one_bootstrap(values: list[float]) -> None:
    assert bootstrap_mean(values, draws=50, seed=3) == bootstrap_mean(values, draws=50, seed=3)


def test_the_bootstrap_agrees_with_the_normal_interval_of_a_large_sample() -> None:
    values = np.random.default_rng(0).normal(5, 2, size=400)
    low, high = bootstrap_mean(values)
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)


@given(samples, finite)
def test_a_constant_shift_has_no_uncertainty_when_paired(values: list[float], shift: float) -> None:
    after = [value + shift for value in values]
    assert paired_bootstrap(values, after, draws=50) == pytest.approx((shift, shift), abs=1e-6)


def test_paired_bootstrap_changes_sign_with_the_order() -> None:
    before, after = [0.0, 1.0, 0.0, 1.0, 1.0], [1.0, 1.0, 0.0, 1.0, 0.0]
    low, high = paired_bootstrap(before, after)
    assert paired_bootstrap(after, before) == pytest.approx((-high, -low), abs=0.21)


def test_paired_samples_of_two_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        paired_bootstrap([1.0], [1.0, 2.0])


def test_the_mean_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        bootstrap_mean([])


def test_resampling_stays_within_the_items_and_depends_on_the_seed() -> None:
    drawn = resample_indices(7, 100, seed=0)
    assert drawn.shape == (100, 7)
    assert set(np.unique(drawn)) == set(range(7))
    assert not np.array_equal(drawn, resample_indices(7, 100, seed=1))


def test_the_percentile_interval_is_the_middle() -> None:
    assert percentile_interval(range(101), 0.9) == pytest.approx((5, 95))


def test_newcombes_interval_is_the_published_one() -> None:
    """Newcombe 1998, table II, (a): 56 of 70 against 48 of 80."""
    low, high = newcombe(48, 80, 56, 70)
    assert low == pytest.approx(0.0524, abs=5e-5)
    assert high == pytest.approx(0.3339, abs=5e-5)


def test_newcombes_interval_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="of nothing"):
        newcombe(0, 0, 1, 2)
