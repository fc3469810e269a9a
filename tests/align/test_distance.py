"""What choices cannot tell does not set rewards apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetylayers.align.distance import centred, epic_distance
from safetylayers.errors import UsageError

PROMPTS = [0, 0, 0, 1, 1, 1, 2, 2, 2]
REWARD = np.random.default_rng(0).standard_normal(9)


@given(st.lists(st.floats(-100, 100), min_size=3, max_size=3), st.floats(0.01, 100))
def test_a_shift_a_prompt_and_a_scale_change_nothing(shifts: list[float], scale: float) -> None:
    moved = scale * REWARD + np.repeat(shifts, 3)
    assert epic_distance(REWARD, moved, PROMPTS) == pytest.approx(0, abs=1e-5)


def test_the_opposite_is_as_far_as_can_be() -> None:
    assert epic_distance(REWARD, -REWARD, PROMPTS) == pytest.approx(1)


def test_unrelated_rewards_are_in_between() -> None:
    random = np.random.default_rng(1)
    prompts = list(np.repeat(range(500), 4))
    distance = epic_distance(random.standard_normal(2000), random.standard_normal(2000), prompts)
    assert distance == pytest.approx(np.sqrt(0.5), abs=0.03)


@given(st.integers(0, 1000))
def test_it_is_a_distance(seed: int) -> None:
    a, b, c = np.random.default_rng(seed).standard_normal((3, 9))
    assert epic_distance(a, b, PROMPTS) == pytest.approx(epic_distance(b, a, PROMPTS))
    ways = epic_distance(a, b, PROMPTS) + epic_distance(b, c, PROMPTS)
    assert epic_distance(a, c, PROMPTS) <= ways + 1e-9


def test_prompts_means_are_taken_off() -> None:
    assert centred([1.0, 3.0, 10.0], [7, 7, 8]).tolist() == [-1.0, 1.0, 0.0]


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(UsageError, match="different replies"):
        epic_distance([1.0, 2.0], [1.0], [0, 0])
    with pytest.raises(UsageError, match="never differs"):
        epic_distance([1.0, 1.0], [1.0, 2.0], [0, 0])
