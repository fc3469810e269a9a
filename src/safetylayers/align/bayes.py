"""Bayesian choice models: how much each feature is worth, and how sure that is.

Of two replies the one is chosen whose worth is higher, the more surely the more it is (Bradley and Terry 1952):
P(a over b) = sigmoid(w . (x_a - x_b)). The posterior of w is taken for a normal distribution around its mode (Laplace;
MacKay 1992, "The evidence framework applied to classification networks"), with its full covariance. Worth is known only
up to a shift a prompt: differences of replies to one prompt have a meaning, their worth by itself has none.

Shapes: N choices or replies, F features, D draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit
from scipy.stats import norm

from safetylayers.errors import UsageError
from safetylayers.stats import LEVEL, Interval

Array = NDArray[np.float64]
PRECISIONS = (1e-6, 1e4)
"""Of the prior, between which the evidence decides."""


class Scores(NamedTuple):
    """Worth of replies: the posterior's mean and standard deviation, [N] each."""

    mean: Array
    deviation: Array

    def interval(self, level: float = LEVEL) -> tuple[Array, Array]:
        """Return the lower and upper ends of the credible intervals, [N] each."""
        reach = norm.ppf((1 + level) / 2) * self.deviation
        return self.mean - reach, self.mean + reach


@dataclass(frozen=True)
class Posterior:
    """What choices say about the worth of features: a normal distribution over weights."""

    mean: Array
    """[F]"""
    covariance: Array
    """[F, F]"""
    precision: float
    """Of the prior."""
    evidence: float
    """Log of the choices' probability under the model, by Laplace's approximation; compares priors and feature sets."""
    choices: int

    @classmethod
    def fit(
        cls,
        differences: ArrayLike,
        *,
        precision: float | None = None,
        counts: ArrayLike | None = None,
    ) -> Self:
        """Fit to choices.

        Args:
            differences: features of the chosen reply less those of the other, [N, F].
            precision: of the prior, a normal one around 0; by itself the one with most evidence.
            counts: how often each choice counts, [N]; by itself once.

        Raises:
            UsageError: there is no choice, or something is no number, or not as it has to be.
        """
        try:
            x_NF = np.asarray(differences, dtype=float)
            count_N = np.ones(len(x_NF)) if counts is None else np.asarray(counts, dtype=float)
        except (TypeError, ValueError) as error:
            raise UsageError("Choices have to be numbers, a row each.", mend="Check what is given.") from error
        if x_NF.ndim != 2 or not x_NF.size or not np.isfinite(x_NF).all():
            raise UsageError("Choices have to be numbers, a row each, and there has to be one.", mend="Check them.")
        if count_N.shape != (len(x_NF),) or not np.isfinite(count_N).all() or (count_N < 0).any():
            raise UsageError("Every choice needs a count from 0 up.", mend="Give as many counts as choices.")
        if precision is not None and not 0 < precision < np.inf:
            raise UsageError(f"A precision of {precision} makes no sense.", mend="Give one above 0, or none.")
        if precision is None:
            low, high = np.log(PRECISIONS)
            best = minimize_scalar(
                lambda log: -cls._at(x_NF, count_N, float(np.exp(log))).evidence,
                bounds=(low, high),
                method="bounded",
                options={"xatol": 0.1},
            )
            precision = float(np.exp(best.x))
        return cls._at(x_NF, count_N, precision)

    @classmethod
    def _at(cls, x_NF: Array, count_N: Array, precision: float) -> Self:
        """Find the mode by Newton's method with step halving; the posterior is concave, so there is one."""
        weights_F = np.zeros(x_NF.shape[1])
        value = _log_joint(weights_F, x_NF, count_N, precision)
        factor = cho_factor(_hessian(weights_F, x_NF, count_N, precision))
        for _ in range(100):
            gradient_F = x_NF.T @ (count_N * expit(-x_NF @ weights_F)) - precision * weights_F
            step_F = cho_solve(factor, gradient_F)
            scale = 1.0
            while (moved := _log_joint(weights_F + scale * step_F, x_NF, count_N, precision)) < value and scale > 1e-6:
                scale /= 2
            weights_F = weights_F + scale * step_F
            factor = cho_factor(_hessian(weights_F, x_NF, count_N, precision))
            if moved - value < 1e-10 * (1 + abs(value)):
                break
            value = moved
        covariance_FF = cho_solve(factor, np.eye(len(weights_F)))
        log_determinant = 2 * float(np.log(np.diag(factor[0])).sum())
        evidence = _log_joint(weights_F, x_NF, count_N, precision) - log_determinant / 2
        evidence += len(weights_F) / 2 * float(np.log(precision))
        symmetric_FF = np.ascontiguousarray((covariance_FF + covariance_FF.T) / 2)
        return cls(weights_F, symmetric_FF, precision, evidence, len(x_NF))

    def scores(self, features: ArrayLike) -> Scores:
        """Return the worth of features [N, F], or of differences of them."""
        x_NF = np.atleast_2d(np.asarray(features, dtype=float))
        variance_N = ((x_NF @ self.covariance) * x_NF).sum(axis=1)
        return Scores(x_NF @ self.mean, np.sqrt(np.maximum(variance_N, 0.0)))

    def probability(self, differences: ArrayLike) -> Array:
        """Return P(first over second) [N] of differences [N, F], the weights integrated out (MacKay 1992, eq. 10)."""
        mean_N, deviation_N = self.scores(differences)
        return np.asarray(expit(mean_N / np.sqrt(1 + np.pi * deviation_N**2 / 8)))

    def draw(self, count: int, seed: int) -> Array:
        """Return weights drawn from the posterior, [D, F]."""
        random = np.random.default_rng(seed)
        return random.multivariate_normal(self.mean, self.covariance, size=count, method="cholesky")

    def intervals(self, level: float = LEVEL) -> list[Interval]:
        """Return each weight's credible interval."""
        reach_F = norm.ppf((1 + level) / 2) * np.sqrt(np.diag(self.covariance))
        ends = zip(self.mean - reach_F, self.mean + reach_F, strict=True)
        return [Interval(float(low), float(high)) for low, high in ends]


def _log_joint(weights_F: Array, x_NF: Array, count_N: Array, precision: float) -> float:
    return float((count_N * log_expit(x_NF @ weights_F)).sum() - precision / 2 * weights_F @ weights_F)


def _hessian(weights_F: Array, x_NF: Array, count_N: Array, precision: float) -> Array:
    p_N = expit(x_NF @ weights_F)
    return np.asarray((x_NF * (count_N * p_N * (1 - p_N))[:, None]).T @ x_NF + precision * np.eye(len(weights_F)))


def calibration_error(probabilities: Sequence[float], hits: Sequence[bool], bins: int = 10) -> float:
    """Return the expected calibration error, with equally many in each bin (arXiv 1706.04599, section 2).

    Args:
        probabilities: of what was predicted, from 0.5 to 1.
        hits: whether it came true.
        bins: of equal size, by probability.
    """
    order = np.argsort(probabilities, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    p, hit = np.asarray(probabilities, dtype=float), np.asarray(hits, dtype=float)
    return float(sum(len(part) * abs(p[part].mean() - hit[part].mean()) for part in parts) / len(order))
