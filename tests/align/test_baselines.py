"""What a reward has to beat is measured on choices that are held out by their prompts."""

from __future__ import annotations

import numpy as np
import pytest

from safetylayers.align.baselines import baselines
from safetylayers.align.folds import FOLDS, held_out, prompts_of
from safetylayers.errors import UsageError
from safetylayers.prompts import Pair, PairSet


def pairs(chosen: str, rejected: str, count: int = 60) -> PairSet:
    return PairSet("p", tuple(Pair.of(f"Question {n}?", chosen.format(n), rejected.format(n)) for n in range(count)))


def test_what_length_tells_is_told_by_length() -> None:
    found = baselines(pairs("A long and thorough answer {}", "No {}"))
    assert found["length"].value == 1.0


def test_what_words_tell_is_told_by_words_alone() -> None:
    found = baselines(pairs("good {}", "evil {}"))
    assert found["words"].value == 1.0
    assert found["length"].value < 0.7


def test_what_nothing_tells_is_told_by_none() -> None:
    coins = np.random.default_rng(0).random(200) < 0.5
    every = tuple(Pair.of(f"Q {n}?", *(("red", "blue") if coin else ("blue", "red"))) for n, coin in enumerate(coins))
    found = baselines(PairSet("coins", every))
    assert 0.35 < found["words"].value < 0.65


def test_choices_about_one_prompt_are_never_on_both_sides() -> None:
    same = PairSet("same", tuple(Pair.of(f"Q {n % 7}?", f"a{n}", f"b{n}") for n in range(70)))
    seen: list[set[int]] = []

    def judge(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        assert not {n % 7 for n in train.tolist()} & {n % 7 for n in test.tolist()}
        seen.append(set(test.tolist()))
        return np.full(len(test), 0.9)

    assert (held_out(prompts_of(same), judge, seed=0) == 0.9).all()
    assert len(seen) == FOLDS
    assert set().union(*seen) == set(range(70))


def test_too_few_prompts_cannot_be_held_out() -> None:
    with pytest.raises(UsageError, match="choices about 1 prompts cannot be held out"):
        baselines(PairSet("one", (Pair.of("Q?", "a", "b"),) * 30))


def test_of_what_nothing_is_said_half_counts_as_told() -> None:
    assert baselines(pairs("abc {}", "xyz {}"))["length"].value == 0.5
