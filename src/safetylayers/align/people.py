"""People who choose differently: how far each can be relied on, without averaging them away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import log_expit

from safetylayers.align.bayes import Array, Posterior
from safetylayers.errors import UsageError
from safetylayers.stats import Interval

SPREAD = 0.7
"""Standard deviation of the log of people's reliabilities, before anything is known: most are within 0.25 to 4."""
MOST = 10
"""Rounds at most."""


@dataclass(frozen=True)
class Person:
    """How one person chooses."""

    name: str
    choices: int
    reliability: float
    """By how much what all agree on moves this person's choices: 1 as much as the average person, 0 not at all. Below 1
    are those who guess, or who value something else."""
    interval: Interval
    agreement: float
    """Share of this person's choices that the others' reward would have made."""


@dataclass(frozen=True)
class People:
    """One reward for all, and what sets each apart."""

    posterior: Posterior
    people: tuple[Person, ...]

    def apart(self) -> list[str]:
        """Return the names of those whose choices the common reward explains far less: less than half the median's."""
        half = float(np.median([person.reliability for person in self.people])) / 2
        return [person.name for person in self.people if person.interval.high < half]


def fit_people(differences: ArrayLike, by: Sequence[str], *, precision: float | None = None) -> People:
    """Fit one reward to the choices of several people, each with a reliability of their own.

    P(person k chooses a over b) = sigmoid(r_k w . (x_a - x_b)), log r_k normal around 0. A person's reliability is
    judged by a reward that has seen none of their choices: by one that has, whoever answers most would bear out
    themselves. Reliabilities are scaled so that their geometric mean is 1. In turn, until they stay.

    Args:
        differences: features of the chosen reply less those of the other, [N, F].
        by: who chose, [N].
        precision: of the prior over weights; by itself by the evidence, before people are told apart.

    Raises:
        UsageError: there is no choice, or names and choices differ in number.
    """
    x_NF = np.atleast_2d(np.asarray(differences, dtype=float))
    if len(by) != len(x_NF):
        raise UsageError(f"{len(x_NF)} choices but {len(by)} names.", mend="Say of each choice who made it.")
    names = sorted(set(by))
    rows = [np.array([index for index, who in enumerate(by) if who == name]) for name in names]
    precision = precision or Posterior.fit(x_NF).precision
    log_r = np.zeros(len(names))
    for _ in range(MOST if len(names) > 1 else 0):
        modes = np.array([_mode(worth) for worth in _worths(x_NF, rows, log_r, precision)])
        moved = modes - modes.mean() - log_r
        log_r = log_r + moved
        if np.abs(moved).max() < 1e-2:
            break
    posterior = Posterior.fit(_scaled(x_NF, rows, log_r), precision=precision)
    worths = _worths(x_NF, rows, log_r, precision) if len(names) > 1 else [x_NF @ posterior.mean]
    people = tuple(
        _person(name, float(log), worth, alone=len(names) == 1)
        for name, log, worth in zip(names, log_r, worths, strict=True)
    )
    return People(posterior, people)


def _person(name: str, log_r: float, worth: Array, *, alone: bool) -> Person:
    """Describe a person by what others' reward says of the choices; of who is alone nothing can be said."""
    reach = 1.96 / np.sqrt(_curvature(_mode(worth), worth))
    interval = Interval(float(np.exp(log_r - reach)), float(np.exp(log_r + reach)))
    agreement = 0.5 if alone else float((worth > 0).mean())
    return Person(name, len(worth), float(np.exp(log_r)), interval, agreement)


def _worths(x_NF: Array, rows: Sequence[Array], log_r: Array, precision: float) -> list[Array]:
    """Return what each person's choices are worth to a reward fitted to the others'."""
    scaled_NF, found = _scaled(x_NF, rows, log_r), []
    for own in rows:
        others = np.setdiff1d(np.arange(len(x_NF)), own)
        found.append(x_NF[own] @ Posterior.fit(scaled_NF[others], precision=precision).mean)
    return found


def _scaled(x_NF: Array, rows: Sequence[Array], log_r: Array) -> Array:
    scaled_NF = x_NF.copy()
    for of, log in zip(rows, log_r, strict=True):
        scaled_NF[of] *= np.exp(log)
    return scaled_NF


def _negative_log(log_r: float, worth: Array) -> float:
    return -float(log_expit(np.exp(log_r) * worth).sum()) + log_r**2 / (2 * SPREAD**2)


def _mode(worth: Array) -> float:
    found = minimize_scalar(_negative_log, bounds=(-4, 4), args=(worth,), method="bounded")
    return float(found.x)


def _curvature(log_r: float, worth: Array, step: float = 1e-3) -> float:
    """Return the second derivative at the mode; the prior keeps it above 0 but where the mode is at a bound."""
    around = [_negative_log(log_r + move, worth) for move in (-step, 0.0, step)]
    return max((around[0] - 2 * around[1] + around[2]) / step**2, 1 / SPREAD**2 / 4)
