"""Which choice to ask a person for next, so that few answers say much."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from safetylayers.align.bayes import Array, Posterior

Strategy = Literal["information", "thompson", "random"]
STRATEGIES: tuple[str, ...] = get_args(Strategy)
_NODES, _SHARES = np.polynomial.hermite_e.hermegauss(32)
"""Gauss and Hermite's, for means over a normal distribution."""


def information_gain(posterior: Posterior, differences: ArrayLike) -> Array:
    """Return the bits that the answer to each question is expected to tell about the weights (BALD, arXiv 1112.5745).

    Args:
        posterior: what is known.
        differences: features of one reply less those of the other, a question a row [N, F].

    Returns:
        Entropy of the answer less its mean entropy under known weights, [N].
    """
    mean_N, deviation_N = posterior.scores(differences)
    shares_D = _SHARES / _SHARES.sum()
    p_ND = expit(mean_N[:, None] + deviation_N[:, None] * _NODES)
    return np.asarray(_entropy(p_ND @ shares_D) - _entropy(p_ND) @ shares_D)


def _entropy(p: Array) -> Array:
    p = np.clip(p, 1e-12, 1 - 1e-12)
    return np.asarray(-(p * np.log2(p) + (1 - p) * np.log2(1 - p)))


def next_questions(
    strategy: Strategy,
    posterior: Posterior,
    differences: ArrayLike,
    count: int,
    *,
    seed: int,
) -> list[int]:
    """Return which questions to ask next, the best first.

    Args:
        strategy: "information" takes those of most expected information; "thompson" those whose replies two drawn
            judges, who each believe one sample of the weights, value most differently (double Thompson sampling,
            arXiv 1604.07101, for pairs that are given); "random" draws.
        posterior: what is known.
        differences: features of each question's one reply less those of its other, [N, F].
        count: how many; all, where there are fewer.
        seed: of the draws.
    """
    differences_NF = np.asarray(differences, dtype=float)
    count = min(count, len(differences_NF))
    return _STRATEGIES[strategy](posterior, differences_NF, count, seed)


def _informative(posterior: Posterior, differences_NF: Array, count: int, seed: int) -> list[int]:
    """Take one after the other; each answer is taken into account before the next is chosen, whatever it will be.

    A logistic answer narrows the weights by p(1-p) along its difference, whichever way it goes. So a batch does not ask
    the same thing many times.
    """
    del seed
    left = np.ones(len(differences_NF), dtype=bool)
    known, chosen = posterior, []
    for _ in range(count):
        gain = np.where(left, information_gain(known, differences_NF), -np.inf)
        best = int(np.argmax(gain))
        chosen.append(best)
        left[best] = False
        known = _narrowed(known, differences_NF[best])
    return chosen


def _narrowed(posterior: Posterior, difference_F: Array) -> Posterior:
    """Return the posterior after an answer that moves no mean: a rank-one update (Sherman and Morrison)."""
    p = float(posterior.probability(difference_F)[0])
    along_F = posterior.covariance @ difference_F
    shrink = p * (1 - p) / (1 + p * (1 - p) * float(difference_F @ along_F))
    covariance = posterior.covariance - shrink * np.outer(along_F, along_F)
    return Posterior(posterior.mean, covariance, posterior.precision, posterior.evidence, posterior.choices)


def _disputed(posterior: Posterior, differences_NF: Array, count: int, seed: int) -> list[int]:
    left, chosen = list(range(len(differences_NF))), []
    for step in range(count):
        one_F, other_F = posterior.draw(2, seed + step)
        gap = differences_NF[left] @ one_F - differences_NF[left] @ other_F
        chosen.append(left.pop(int(np.argmax(np.abs(gap)))))
    return chosen


def _random(posterior: Posterior, differences_NF: Array, count: int, seed: int) -> list[int]:
    del posterior
    return [int(index) for index in np.random.default_rng(seed).permutation(len(differences_NF))[:count]]


_STRATEGIES: dict[str, Callable[[Posterior, Array, int, int], list[int]]] = {
    "information": _informative,
    "thompson": _disputed,
    "random": _random,
}


def label_curve(
    strategy: Strategy,
    differences: ArrayLike,
    held_out: ArrayLike,
    budgets: Sequence[int],
    *,
    seed: int,
    precision: float | None = None,
) -> list[float]:
    """Ask by a strategy, learn, ask again; return the accuracy on held-out choices at each label budget.

    Args:
        strategy: how questions are chosen; the first budget's are random for all.
        differences: features of the replies that are chosen when asked less those of the others, [N, F].
        held_out: the same of choices that are not asked about, [M, F].
        budgets: of labels, ascending.
        seed: of what is drawn.
        precision: of the prior; by itself by the evidence.
    """
    differences_NF = np.asarray(differences, dtype=float)
    test_MF = np.asarray(held_out, dtype=float)
    asked = [int(index) for index in np.random.default_rng(seed).permutation(len(differences_NF))[: budgets[0]]]
    found: list[float] = []
    for budget in budgets:
        if budget > len(asked):
            posterior = Posterior.fit(differences_NF[asked], precision=precision)
            open_ = np.setdiff1d(np.arange(len(differences_NF)), asked)
            picks = next_questions(
                strategy,
                posterior,
                differences_NF[open_],
                budget - len(asked),
                seed=seed + budget,
            )
            asked += [int(open_[pick]) for pick in picks]
        posterior = Posterior.fit(differences_NF[asked], precision=precision)
        found.append(float((posterior.scores(test_MF).mean > 0).mean()))
    return found
