"""A choice model on hidden states as they are read: its prior by the evidence, and people told apart where asked.

Shapes: N choices, K components.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from safetylayers.align.bayes import Array, Posterior
from safetylayers.align.folds import Indices, held_out
from safetylayers.align.people import People, fit_people
from safetylayers.align.reading import Reading

POWERS = (0.0, 0.5, 1.0)
"""Of components' standard deviations, by which the prior may prefer those that vary much."""


class Fitted(NamedTuple):
    """What choices say."""

    posterior: Posterior
    people: People | None
    """Where they were told apart."""


def fit(difference_NK: Array, reading: Reading, by: Sequence[str] = ()) -> Fitted:
    """Fit with the prior that the evidence prefers.

    A prior that is the same in all directions of hidden states says little of those with little variance; one that is
    the same for all components takes them as seriously as any. The powers in between are between those.

    Args:
        difference_NK: components of the chosen reply less those of the other.
        reading: that gave them.
        by: who chose, to weigh people by how far the others' choices bear theirs out; nobody to count all alike.
    """
    found = []
    for power in POWERS:
        scale_K = (reading.spread / reading.spread[0]) ** power
        found.append((scale_K, Posterior.fit(difference_NK * scale_K)))
    scale_K, fitted = max(found, key=lambda each: each[1].evidence)
    people = None
    if len(set(by)) > 1:
        people = fit_people(difference_NK * scale_K, by, precision=fitted.precision)
        fitted = people.posterior
    covariance_KK = np.ascontiguousarray(fitted.covariance * np.outer(scale_K, scale_K))
    return Fitted(replace(fitted, mean=fitted.mean * scale_K, covariance=covariance_KK), people)


def foresee(
    prompts: Sequence[str], difference_NK: Array, reading: Reading, *, seed: int, by: Sequence[str] = ()
) -> Array:
    """Return the probability of each choice, [N], by fits that have seen none about the same prompt, prior included.

    Where people are told apart, it is the probability that this very person chooses so; of somebody who made no other
    choice, that the average person does.
    """
    who = np.array(by)

    def judge(train: Indices, test: Indices) -> Array:
        fitted = fit(difference_NK[train], reading, who[train].tolist() if len(who) else ())
        known = {person.name: person.reliability for person in fitted.people.people} if fitted.people else {}
        reliability = np.array([known.get(name, 1.0) for name in who[test]]) if known else np.ones(len(test))
        return fitted.posterior.probability(difference_NK[test] * reliability[:, None])

    return held_out(prompts, judge, seed)
