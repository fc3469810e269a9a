"""Choice models on what is read: people are told apart where asked, and only there."""

from __future__ import annotations

import numpy as np
import pytest

from align.planted import choices
from safetylayers.align.fitting import fit, foresee
from safetylayers.align.reading import Reading

WEIGHTS = [2.0, -1.0, 0.0]
READING = Reading(np.zeros(3), np.eye(3), np.ones(3), 0.1, 0.1, 9.0)


def test_people_are_told_apart_only_where_several_are_named() -> None:
    x = choices(60, WEIGHTS, seed=0).differences
    assert fit(x, READING).people is None
    assert fit(x, READING, ["ann"] * 60).people is None
    np.testing.assert_array_equal(fit(x, READING, ["ann"] * 60).posterior.mean, fit(x, READING).posterior.mean)


def test_what_a_guesser_chooses_is_foreseen_less_surely() -> None:
    careful, guesses = choices(240, WEIGHTS, seed=1).differences, choices(120, [0.0] * 3, seed=2).differences
    x, by = np.concatenate([careful, guesses]), ["ann", "bob"] * 120 + ["cem"] * 120
    prompts = [str(n) for n in range(len(x))]
    apart, alike = foresee(prompts, x, READING, seed=0, by=by), foresee(prompts, x, READING, seed=0)
    assert np.abs(apart[240:] - 0.5).mean() < 0.7 * np.abs(alike[240:] - 0.5).mean()
    assert np.abs(apart[:240] - 0.5).mean() > np.abs(alike[:240] - 0.5).mean()
    assert np.log(apart).mean() > np.log(alike).mean()
    known = {person.name: person.reliability for person in fit(x, READING, by).people.people}  # type: ignore[union-attr]
    assert known["cem"] == min(known.values())
    assert known["ann"] == pytest.approx(known["bob"], rel=0.6)
