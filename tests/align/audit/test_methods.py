"""Weights are found where they were planted, by every method, and nothing where two models are one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from align.audited import ALL, BAYESIAN, NAMES, PLANTED, World, width
from safetylayers.align.audit import METHODS, Method, Pairs, methods


@pytest.mark.parametrize("method", BAYESIAN)
def test_planted_weights_lie_within_their_intervals_in_nine_of_ten(method: Method) -> None:
    inside = []
    for seed in range(12):
        found = World(PLANTED, seed=seed, noise=1.0).infer(method)
        inside += [found.weights[n].low <= w <= found.weights[n].high for n, w in zip(NAMES, PLANTED, strict=True)]
    assert np.mean(inside) >= 0.9


@pytest.mark.parametrize("method", ALL)
def test_signs_are_found_and_the_models_told_apart(method: Method) -> None:
    found = World(PLANTED, seed=1, noise=1.0).infer(method)
    assert found.weights["kind"].low > 0 > found.weights["brief"].high
    assert found.weights["kind"].above > 0.99
    assert found.weights["brief"].above < 0.01
    assert found.undecided == ("idle",)
    assert found.differs


def test_log_ratios_without_noise_give_the_weights_themselves() -> None:
    found = World(PLANTED, seed=0).infer("log-ratio")
    assert [found.weights[name].mean for name in NAMES] == pytest.approx(PLANTED, abs=1e-4)


@pytest.mark.parametrize("method", ALL)
def test_of_two_equal_models_nothing_is_told(method: Method, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "RESAMPLED", 60)
    found = [World(np.zeros(3), seed=seed, prompts=40, replies=2).infer(method) for seed in range(15)]
    assert sum(record.differs for record in found) <= 1
    assert np.mean([len(record.undecided) for record in found]) > 0.8 * 3


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.1, 100))
@pytest.mark.parametrize("method", ALL)
def test_a_shift_a_prompt_changes_nothing(method: Method, seed: int, size: float) -> None:
    world = World(PLANTED, seed=0, prompts=20, replies=2, noise=1.0)
    shift_N4 = np.random.default_rng(seed).normal(0, size, (20, 4))[world.samples.prompt]
    found, moved = (
        METHODS[method](Pairs(*scores, world.samples.prompt, ratios), 10, np.random.default_rng(0), None)
        for scores, ratios in (
            (world.scores, world.ratios),
            (world.scores + shift_N4[None, :, :3], world.ratios + shift_N4[None, :, 3]),
        )
    )
    assert moved.mean == pytest.approx(found.mean, abs=1e-4)
    assert moved.draws == pytest.approx(found.draws, abs=1e-4)


@pytest.mark.parametrize("method", ALL)
def test_the_same_reply_again_and_again_makes_nothing_surer(method: Method) -> None:
    once = World(PLANTED, seed=3, prompts=100, replies=1, noise=1.0)
    often = World(PLANTED, seed=3, prompts=100, replies=5, noise=1.0)
    copies = np.repeat(np.arange(100), 5)
    repeated = often.infer(method, once.scores[:, copies], once.ratios[:, copies])
    assert width(repeated) > 0.8 * width(once.infer(method))


def test_one_model_has_no_log_ratios_to_itself() -> None:
    world = World(np.zeros(3), seed=0)
    found = world.infer("log-ratio", ratios=np.zeros((2, 240)))
    assert found.undecided == NAMES
    assert not found.differs
    assert found.held_out.mean == 0.5


def test_every_method_has_its_name() -> None:
    assert list(METHODS) == ALL
