"""Three ways from scored pairs to weights.

Shapes: N pairs, P prompts, V values, R rows of a regression, D draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, eigh, helmert
from scipy.special import expit

from safetylayers.align.audit.record import Method
from safetylayers.align.bayes import Array, Posterior
from safetylayers.align.folds import Indices

RESAMPLED = 200
"""Bootstrap samples of prompts, for max-margin."""


class Pairs(NamedTuple):
    """What weights are inferred from."""

    ours: Array
    """[N, V]; scores of the model's replies."""
    theirs: Array
    """[N, V]; of the base's."""
    prompt: NDArray[np.intp]
    """[N]."""
    ratios: Array
    """[2, N]; log-ratios of the model's replies and of the base's, for that method alone."""

    @property
    def differences(self) -> Array:
        """[N, V]."""
        return self.ours - self.theirs

    def at(self, chosen: Indices) -> Pairs:
        """Return some of the pairs."""
        return Pairs(self.ours[chosen], self.theirs[chosen], self.prompt[chosen], self.ratios[:, chosen])


class Inferred(NamedTuple):
    """Weights."""

    mean: Array
    """[V]"""
    draws: Array
    """[D, V]"""
    precision: float | None = None
    """Of the prior, where the evidence has chosen it on a grid."""


def _preference(pairs: Pairs, count: int, rng: np.random.Generator, precision: float | None) -> Inferred:
    """Take the pairs for choices; those of one prompt share no reply, so the model has them independent."""
    x_NV = pairs.differences
    fitted = Posterior.fit(x_NV, precision=precision)
    slope_NV = x_NV * expit(-x_NV @ fitted.mean)[:, None] - fitted.precision * fitted.mean / len(x_NV)
    found = _drawn(fitted.mean, fitted.covariance, by_prompt(slope_NV, pairs.prompt), count, rng)
    return found._replace(precision=fitted.precision)


def _log_ratio(pairs: Pairs, count: int, rng: np.random.Generator, precision: float | None) -> Inferred:
    """Regress log-ratios on scores within prompts (evidence: MacKay 1992, "Bayesian interpolation").

    Orthonormal contrasts of a prompt's replies know no shift, and have one row less than there are replies.
    """
    from sklearn.linear_model import BayesianRidge

    del precision  # the evidence finds it anew, to the last digit
    rows, of = [], []
    for prompt in np.unique(pairs.prompt):
        here = pairs.prompt == prompt
        scores_MV = np.concatenate([pairs.ours[here], pairs.theirs[here]])
        known_M = pairs.ratios[:, here].ravel()
        rows.append(helmert(len(known_M)) @ np.column_stack([scores_MV, known_M]))
        of.append(np.full(len(known_M) - 1, prompt))
    table_RV = np.concatenate(rows)
    x_RV, y_R = table_RV[:, :-1], table_RV[:, -1]
    if not y_R.any():  # both models are one
        return Inferred(np.zeros(x_RV.shape[1]), np.zeros((count, x_RV.shape[1])))
    fitted = BayesianRidge(fit_intercept=False, tol=1e-10, max_iter=2000).fit(x_RV, y_R)
    error_R = y_R - x_RV @ fitted.coef_
    slope_RV = fitted.alpha_ * x_RV * error_R[:, None] - fitted.lambda_ * fitted.coef_ / len(y_R)
    return _drawn(fitted.coef_, fitted.sigma_, by_prompt(slope_RV, np.concatenate(of)), count, rng)


def _max_margin(pairs: Pairs, count: int, rng: np.random.Generator, precision: float | None) -> Inferred:
    """Separate the differences from their opposites; the draws are normal, as wide as a bootstrap over prompts."""
    from sklearn.svm import LinearSVC

    del precision  # there is no prior
    x_NV = pairs.differences
    _, place_N = np.unique(pairs.prompt, return_inverse=True)
    total = place_N.max() + 1

    def separate(count_P: NDArray[np.int64]) -> Array:
        times_N = count_P[place_N]
        rows_NV, times_N = x_NV[times_N > 0], times_N[times_N > 0]
        # A classifier wants both answers: every pair also stands the other way round.
        both, sides = np.concatenate([rows_NV, -rows_NV]), np.repeat([1, 0], len(rows_NV))
        machine = LinearSVC(fit_intercept=False, dual=False, tol=1e-6, max_iter=10_000)
        return np.asarray(machine.fit(both, sides, sample_weight=np.tile(times_N, 2)).coef_[0])

    mean_V = separate(np.ones(total, dtype=np.int64))
    if not count:
        return Inferred(mean_V, np.empty((0, len(mean_V))))
    drawn = rng.multinomial(total, np.full(total, 1 / total), size=RESAMPLED)
    covariance_VV = np.atleast_2d(np.cov(np.array([separate(count_P) for count_P in drawn]).T))
    # Prompts are few, and as many numbers as there are values are fitted to them.
    covariance_VV *= total / max(total - 1 - len(mean_V), 1)
    return Inferred(mean_V, rng.multivariate_normal(mean_V, covariance_VV, size=count))


def _drawn(mean_V: Array, covariance_VV: Array, slope_PV: Array, count: int, rng: np.random.Generator) -> Inferred:
    """Draw weights from the posterior, widened where prompts disagree by more than its model has them disagree.

    Widened to the covariance that is robust to what replies to one prompt have in common (Liang and Zeger 1986), in
    those directions alone in which this is the greater.

    Args:
        mean_V: the posterior's.
        covariance_VV: the posterior's.
        slope_PV: of the log-posterior at the mean, each prompt's part of it.
        count: of draws.
        rng: draws.
    """
    root_VV = cholesky(covariance_VV, lower=True)
    prompts = len(slope_PV)
    scaled_PV = slope_PV @ root_VV * np.sqrt(prompts / max(prompts - 1, 1))
    variance_V, along_VV = eigh(scaled_PV.T @ scaled_PV)
    wide_VV = root_VV @ (along_VV * np.sqrt(np.maximum(variance_V, 1.0))) @ along_VV.T
    return Inferred(mean_V, mean_V + rng.standard_normal((count, len(mean_V))) @ wide_VV.T)


def by_prompt(rows_NV: Array, prompt_N: NDArray[np.intp]) -> Array:
    """Return sums a prompt, [P, V]."""
    known, place_N = np.unique(prompt_N, return_inverse=True)
    found = np.zeros((len(known), rows_NV.shape[1]))
    np.add.at(found, place_N, rows_NV)
    return found


def prompt_means(rows_NV: Array, prompt_N: NDArray[np.intp]) -> Array:
    """Return means a prompt, [P, V]."""
    return by_prompt(rows_NV, prompt_N) / np.unique(prompt_N, return_counts=True)[1][:, None]


METHODS: Mapping[Method, Callable[[Pairs, int, np.random.Generator, float | None], Inferred]] = {
    "preference": _preference,
    "log-ratio": _log_ratio,
    "max-margin": _max_margin,
}
