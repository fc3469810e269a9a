"""Choices whose reasons are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from safetylayers.align.bayes import Array


@dataclass(frozen=True)
class Choices:
    """Replies' features, which of each two was chosen, and by what weights."""

    chosen: Array
    rejected: Array
    weights: Array

    @property
    def differences(self) -> Array:
        return self.chosen - self.rejected


def choices(count: int, weights: list[float], *, seed: int, noisy: bool = True) -> Choices:
    """Draw features and let the planted weights choose; noisily, as Bradley and Terry say, or always the better one."""
    random = np.random.default_rng(seed)
    w = np.asarray(weights)
    first, second = random.standard_normal((2, count, len(w)))
    worth = (first - second) @ w
    takes_first = (random.random(count) < expit(worth)) if noisy else worth > 0
    chosen = np.where(takes_first[:, None], first, second)
    rejected = np.where(takes_first[:, None], second, first)
    return Choices(chosen, rejected, w)
