"""Curves and gap, on hidden states whose angles are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from safetylayers.locate.curves import drawn_curves, pair_angles, similarity_curves
from safetylayers.locate.gap import LEAST_GROWTH, find_gap, growth, rise


def planted(layers: int = 10, opens: int = 4, prompts: int = 40, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two kinds of prompts that part ways from layer `opens` on, over three layers."""
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(2, prompts, layers, 64, generator=generator) + 2.0
    direction = torch.randn(64, generator=generator)
    for layer in range(layers):
        states[1, :, layer] += min(max(layer - opens + 1, 0), 3) * 1.5 * direction
    return states[0], states[1]


def test_angles_between_known_vectors() -> None:
    normal = torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]]])
    malicious = torch.tensor([[[0.0, 1.0]], [[0.0, 2.0]]])
    pairs = pair_angles(normal, malicious)
    # N-M: 90, 90, 45, 45; N-N: 45.
    assert pairs.gap()[0] == pytest.approx(67.5 - 45)
    curves = similarity_curves(pairs)
    assert curves["N-N"].mean[0] == pytest.approx(np.sqrt(0.5))
    assert curves["M-M"].mean[0] == pytest.approx(1)
    assert curves["N-M"].mean[0] == pytest.approx(np.sqrt(0.5) / 2)


def test_drawn_pairs_estimate_what_all_pairs_give() -> None:
    pairs = pair_angles(*planted())
    exact, (drawn, gap) = similarity_curves(pairs), drawn_curves(pairs, 5_000, seed=0)
    for kind, curve in exact.items():
        np.testing.assert_allclose(drawn[kind].mean, curve.mean, atol=0.02)
    np.testing.assert_allclose(gap, pairs.gap(), atol=1.0)


def test_the_scale_of_hidden_states_does_not_matter() -> None:
    normal, malicious = planted()
    scaled = pair_angles(normal * 7, malicious * 3).gap()
    np.testing.assert_allclose(scaled, pair_angles(normal, malicious).gap(), atol=1e-5)


def test_a_planted_gap_is_found_where_it_was_planted() -> None:
    pairs = pair_angles(*planted(opens=4))
    gap = find_gap(pairs.gap(), pairs.bootstrap_gaps(100, 0), pairs.shuffled_gaps(100, 0))
    assert gap.opens
    assert (gap.onset, gap.smoothing) == (4, 6)


def test_without_a_difference_there_is_no_gap() -> None:
    pairs = pair_angles(*planted(opens=99))
    gap = find_gap(pairs.gap(), pairs.bootstrap_gaps(100, 0), pairs.shuffled_gaps(100, 0))
    assert not gap.opens
    assert gap.peak_growth < LEAST_GROWTH


def test_shuffled_labels_show_no_gap() -> None:
    states = torch.cat(planted(opens=4))[torch.randperm(80, generator=torch.Generator().manual_seed(1))]
    pairs = pair_angles(states[:40], states[40:])
    gap = find_gap(pairs.gap(), pairs.bootstrap_gaps(100, 0), pairs.shuffled_gaps(200, 0))
    assert not gap.opens


def test_a_gap_that_is_there_from_the_first_layer_on_begins_there() -> None:
    from_the_start = np.array([40.0, 42, 41, 41, 40, 41, 41, 42])
    assert growth(from_the_start).max() == 42
    assert rise(from_the_start) == (0, 0)


def test_the_rule_weighs_growth_and_not_the_sign() -> None:
    below_zero = np.array([-30.0, -30, -29, -20, -10, -4, -3, -3])
    assert rise(below_zero) == rise(below_zero - 50) == rise(below_zero + 30) == (3, 5)
