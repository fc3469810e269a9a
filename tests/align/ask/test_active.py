"""Questions that are chosen say more than questions that are drawn."""

from __future__ import annotations

import numpy as np
import pytest

from align.planted import choices
from safetylayers.align.ask.active import STRATEGIES, Strategy, information_gain, label_curve, next_questions
from safetylayers.align.bayes import Posterior

WEIGHTS = [3.0, -2.0, 1.0, 0.5] + [0.0] * 16


def test_an_answer_that_is_known_tells_nothing_and_one_that_is_open_tells_most() -> None:
    known = Posterior(np.array([5.0, 0.0]), np.diag([1e-4, 4.0]), 1.0, 0.0, 10)
    sure, open_, same = information_gain(known, [[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    assert sure < 1e-3
    assert same == pytest.approx(0, abs=1e-9)
    assert 0.3 < open_ < 1


def test_what_is_known_to_be_a_coin_is_not_asked() -> None:
    coin = Posterior(np.zeros(1), np.array([[1e-6]]), 1.0, 0.0, 1000)
    assert information_gain(coin, [[1.0]])[0] < 1e-6  # entropy of the answer is a bit, and none of it is about weights


def test_a_batch_does_not_ask_the_same_thing_twice() -> None:
    prior = Posterior(np.zeros(2), np.diag([4.0, 3.0]), 1.0, 0.0, 0)
    questions = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert set(next_questions("information", prior, questions, 2, seed=0)) == {0, 3}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_asks_as_often_as_it_may_and_repeats_itself_with_its_seed(strategy: Strategy) -> None:
    planted = choices(30, WEIGHTS, seed=0)
    known = Posterior.fit(planted.differences[:5])
    first, again = (next_questions(strategy, known, planted.differences, 7, seed=3) for _ in range(2))
    assert first == again
    assert len(set(first)) == 7
    assert len(next_questions(strategy, known, planted.differences, 99, seed=3)) == 30


def test_chosen_questions_need_fewer_labels_than_drawn_ones() -> None:
    budgets = [*range(5, 155, 5)]
    needed: dict[str, list[int]] = {"information": [], "random": []}
    for seed in range(4):
        pool = choices(600, WEIGHTS, seed=seed, noisy=False)
        test = choices(1000, WEIGHTS, seed=100 + seed, noisy=False).differences
        full = float((Posterior.fit(pool.differences).scores(test).mean > 0).mean())
        for strategy, found in needed.items():
            curve = label_curve(
                strategy, pool.differences, test, budgets, seed=seed, precision=0.1,  # type: ignore[arg-type]
            )  # fmt: skip
            found.append(next((b for b, a in zip(budgets, curve, strict=True) if a >= 0.9 * full), budgets[-1]))
    assert np.mean(needed["information"]) < 0.8 * np.mean(needed["random"])
