"""Those who guess, and those who value something else, are seen."""

from __future__ import annotations

import numpy as np
import pytest

from align.planted import choices
from safetylayers.align.bayes import Posterior
from safetylayers.align.people import fit_people
from safetylayers.errors import UsageError

WEIGHTS = [1.5, -1.0, 0.5]


def test_whoever_guesses_counts_less_and_is_named() -> None:
    careful = [choices(150, WEIGHTS, seed=seed).differences for seed in range(3)]
    guesses = choices(150, [0.0, 0.0, 0.0], seed=9).differences
    by = ["ann"] * 150 + ["bea"] * 150 + ["cem"] * 150 + ["dan"] * 150
    found = fit_people(np.concatenate([*careful, guesses]), by)
    reliability = {person.name: person.reliability for person in found.people}
    assert reliability["dan"] < 0.4 * min(reliability[name] for name in ("ann", "bea", "cem"))
    assert found.apart() == ["dan"]
    agreement = {person.name: person.agreement for person in found.people}
    assert agreement["dan"] < 0.6
    assert agreement["ann"] > 0.7


def test_whoever_answers_most_does_not_bear_out_themselves() -> None:
    weights = list(np.random.default_rng(0).standard_normal(64) / 3)
    for seed in range(3):
        people = {"ann": (30, weights), "bea": (30, weights), "cem": (30, weights), "dan": (150, [0.0] * 64)}
        x = [choices(n, w, seed=10 * seed + k).differences for k, (n, w) in enumerate(people.values())]
        by = [name for name, (n, _) in people.items() for _ in range(n)]
        found = {person.name: person.reliability for person in fit_people(np.concatenate(x), by).people}
        assert found["dan"] == min(found.values())


def test_the_common_reward_is_nearer_the_truth_than_without_telling_people_apart() -> None:
    both, apart = [], []
    for seed in range(5):
        noise = np.random.default_rng(seed).standard_normal((180, 3))
        x = np.concatenate([choices(60, WEIGHTS, seed=seed).differences, noise])
        by = ["ann"] * 60 + ["dan"] * 180
        truth = np.array(WEIGHTS) / np.linalg.norm(WEIGHTS)
        for found, kept in ((Posterior.fit(x).mean, both), (fit_people(x, by).posterior.mean, apart)):
            kept.append(float(found @ truth / np.linalg.norm(found)))
    assert np.mean(apart) > np.mean(both) + 0.02


def test_one_person_alone_is_the_measure() -> None:
    x = choices(100, WEIGHTS, seed=0).differences
    found = fit_people(x, ["ann"] * 100)
    assert found.people[0].reliability == pytest.approx(1)
    np.testing.assert_allclose(found.posterior.mean, Posterior.fit(x).mean, rtol=1e-3)


def test_every_choice_needs_its_name() -> None:
    with pytest.raises(UsageError, match="2 choices but 1 names"):
        fit_people([[1.0], [2.0]], ["ann"])
