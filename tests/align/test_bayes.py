"""Choices tell weights, and how sure they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import expit, log_expit

from align.planted import choices
from safetylayers.align.bayes import Posterior, calibration_error
from safetylayers.align.ensemble import Ensemble
from safetylayers.errors import UsageError

WEIGHTS = [2.0, 1.0, 0.5, 0.0, -1.0]


def test_planted_weights_lie_within_their_intervals_as_often_as_these_say() -> None:
    inside = []
    for draw in range(20):
        found = Posterior.fit(choices(400, WEIGHTS, seed=draw).differences)
        inside += [low <= true <= high for true, (low, high) in zip(WEIGHTS, found.intervals(), strict=True)]
    assert np.mean(inside) >= 0.9  # of 100 intervals of 95 %


def test_shuffled_choices_recover_nothing() -> None:
    planted = choices(400, WEIGHTS, seed=0)
    signs = np.random.default_rng(1).choice([-1.0, 1.0], size=(400, 1))
    found = Posterior.fit(planted.differences * signs)
    test = choices(2000, WEIGHTS, seed=2).differences
    assert np.abs(found.probability(test) - 0.5).max() < 0.2
    assert found.evidence < Posterior.fit(planted.differences).evidence - 50
    assert np.abs(found.mean).max() < 0.2


def test_the_mode_has_no_slope_and_the_covariance_is_the_curvatures_inverse() -> None:
    x = choices(60, WEIGHTS, seed=3).differences
    found = Posterior.fit(x, precision=0.5)

    def slope(w: np.ndarray) -> np.ndarray:
        return x.T @ expit(-x @ w) - 0.5 * w

    assert np.abs(slope(found.mean)).max() < 1e-4
    step = 1e-5
    hessian = np.stack([(slope(found.mean - e) - slope(found.mean + e)) / (2 * step) for e in step * np.eye(5)])
    np.testing.assert_allclose(found.covariance @ hessian, np.eye(5), atol=1e-5)


def test_the_evidence_is_the_integral_it_approximates() -> None:
    x = choices(30, [0.8], seed=4).differences
    found = Posterior.fit(x, precision=1.0)

    def joint(w: float) -> float:
        return float(np.exp(log_expit(x[:, 0] * w).sum() - w * w / 2) / np.sqrt(2 * np.pi))

    assert found.evidence == pytest.approx(np.log(quad(joint, -10, 10)[0]), abs=0.02)


def test_a_choice_that_counts_twice_is_two_choices() -> None:
    x = choices(20, WEIGHTS, seed=5).differences
    twice = Posterior.fit(np.concatenate([x, x[:5]]), precision=1.0)
    counted = Posterior.fit(x, precision=1.0, counts=[2.0] * 5 + [1.0] * 15)
    np.testing.assert_allclose(counted.mean, twice.mean, atol=1e-6)
    np.testing.assert_allclose(counted.covariance, twice.covariance, atol=1e-6)


@given(st.lists(st.floats(-5, 5), min_size=5, max_size=5))
def test_what_is_not_the_first_is_the_second(difference: list[float]) -> None:
    found = Posterior.fit(choices(40, WEIGHTS, seed=6).differences, precision=1.0)
    there, back = found.probability(difference)[0], found.probability([-each for each in difference])[0]
    assert there + back == pytest.approx(1)


def test_far_from_what_was_seen_a_probability_is_nearer_to_a_coin_than_the_mode_alone_says() -> None:
    found = Posterior.fit(choices(40, WEIGHTS, seed=7).differences)
    far = 30 * np.eye(5)[3:4]
    alone = expit(abs(float((far @ found.mean)[0])))
    assert max(found.probability(far)[0], found.probability(-far)[0]) < alone


def test_draws_are_spread_as_the_covariance_says() -> None:
    found = Posterior.fit(choices(100, WEIGHTS, seed=8).differences)
    drawn = found.draw(20_000, seed=0)
    np.testing.assert_allclose(drawn.mean(axis=0), found.mean, atol=0.02)
    np.testing.assert_allclose(np.cov(drawn.T), found.covariance, atol=0.02)


def test_few_choices_leave_wide_intervals_and_many_narrow_ones() -> None:
    few, many = (Posterior.fit(choices(n, WEIGHTS, seed=9).differences, precision=1.0) for n in (20, 2000))
    assert np.diag(many.covariance).max() < np.diag(few.covariance).min() / 3


def test_an_ensemble_agrees_with_the_posterior_on_mean_and_spread() -> None:
    x = choices(500, WEIGHTS, seed=10).differences
    posterior, ensemble = Posterior.fit(x), Ensemble.fit(x, members=40, seed=0)
    at = choices(50, WEIGHTS, seed=11).differences
    ours, theirs = posterior.scores(at), ensemble.scores(at)
    assert np.corrcoef(ours.mean, theirs.mean)[0, 1] > 0.99
    assert 0.7 < np.mean(theirs.deviation / ours.deviation) < 1.4
    np.testing.assert_allclose(ensemble.probability(at), posterior.probability(at), atol=0.1)


@pytest.mark.parametrize(
    "wrong", [np.zeros((0, 3)), [[float("nan"), 1.0]], [], [1.0, 2.0], [["a", "b"]], [[1], [2, 3]]]
)
def test_choices_that_are_none_are_refused(wrong: object) -> None:
    with pytest.raises(UsageError, match="Choices have to be numbers"):
        Posterior.fit(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("settings", [{"counts": [1.0]}, {"counts": [-1.0, 1.0]}, {"precision": 0}, {"precision": -5}])
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"count from 0 up|makes no sense"):
        Posterior.fit([[1.0], [2.0]], **settings)


def test_an_ensemble_of_one_is_refused() -> None:
    with pytest.raises(UsageError, match="no spread"):
        Ensemble.fit([[1.0]], members=1)


def test_probabilities_that_come_true_as_often_as_they_say_are_calibrated() -> None:
    random = np.random.default_rng(0)
    p = random.uniform(0.5, 1, 20_000)
    hits = random.random(20_000) < p
    assert calibration_error(list(p), list(hits)) < 0.02
    assert calibration_error([0.99] * 100, [True, False] * 50) == pytest.approx(0.49)
