"""Calibration on scores that can be checked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetylayers.attach.calibration import Scored, calibrate, exponential_means, platt, thresholds
from safetylayers.attach.gate import GateSettings, HeadCalibration
from safetylayers.attach.health import opens
from safetylayers.attach.scores import head_score, threshold_at


def test_platt_turns_scores_into_log_odds_that_grow_with_them() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(4000) < 0.5
    scores = np.where(truth, 1.0, -1.0) + rng.normal(size=4000)
    scale, offset = platt(scores.tolist(), truth.tolist())
    assert scale == pytest.approx(2.0, rel=0.1)  # of two normals one deviation to each side
    assert offset == pytest.approx(0.0, abs=0.15)


def test_platt_leaves_scores_alone_where_one_side_is_lacking() -> None:
    assert platt([1.0, 2.0], [True, True]) == (1.0, 0.0)


def test_platt_never_turns_a_head_round() -> None:
    assert platt([1.0, 2.0, 3.0, 4.0], [True, True, False, False])[0] > 0


@given(st.integers(0, 500), st.sampled_from([0.01, 0.05, 0.2]))
def test_no_more_than_the_allowed_share_of_harmless_replies_opens_the_gate(seed: int, rate: float) -> None:
    rng = np.random.default_rng(seed)
    rows = [Scored(rng.normal(size=1), rng.normal(size=(rng.integers(0, 6), 1))) for _ in range(60)]
    gate = GateSettings()
    limits = thresholds(0, HeadCalibration(), rows, gate, rate)
    known = {"harm": HeadCalibration(thresholds=limits)}
    assert sum(opens(row, ("harm",), known, gate) for row in rows) <= rate * 60


def test_the_refusal_head_gets_no_threshold() -> None:
    rows = [Scored(np.array([value, value]), np.array([[value, value]])) for value in (-1.0, 1.0, -2.0, 2.0)]
    truths = [{"harm": (value > 0, value > 0), "refusal": (None, value > 0)} for value in (-1.0, 1.0, -2.0, 2.0)]
    found = calibrate(("harm", "refusal"), rows, truths, rows, GateSettings(), 0.01)
    assert found["harm"].thresholds
    assert found["refusal"].thresholds is None


def test_exponential_means_begin_at_the_first_value() -> None:
    np.testing.assert_allclose(exponential_means(np.array([1.0, 0.0, 0.0]), 0.5), [1.0, 0.5, 0.25])


def test_scores_have_intervals_and_recall_at_few_false_alarms() -> None:
    score = head_score("harm", "prompt end", [2.0] * 30, [1.0] * 20 + [0.0] * 80)
    assert (score.auroc, score.interval) == (1.0, (1.0, 1.0))
    assert score.recall["0.01"].value == 1.0
    assert threshold_at(np.arange(100.0), 0.01) == 98.0
    assert threshold_at(np.arange(100.0), 0.001) == 99.0
