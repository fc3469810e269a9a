"""How alike hidden states are within and between kinds of prompts, layer by layer (arXiv 2408.17003, section 3.2).

One forward pass a prompt gives every pair: the paper's 500 drawn pairs of each kind are an estimate of what is computed
here exactly. Shapes: N normal prompts, M malicious ones, L layers, H hidden size, P prompts of both kinds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from safetylayers.records import Record
from safetylayers.stats import resample_indices

Floats = NDArray[np.float64]


class Curve(Record):
    """A mean over pairs of prompts and its deviation, one value a layer."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]


@dataclass(frozen=True)
class PairAngles:
    """Cosines and angles (degrees) between the hidden states of all pairs of prompts; normal prompts come first."""

    cosines_LPP: Floats
    angles_LPP: Floats
    normals: int

    def gap(self, order_P: NDArray[np.int64] | None = None) -> Floats:
        """Return the mean angle N-M less the mean angle N-N: [L], degrees.

        Args:
            order_P: prompts in another order or drawn with repeats; the first `normals` count as normal.
        """
        order = np.arange(self.angles_LPP.shape[1]) if order_P is None else order_P
        n, m = order[: self.normals], order[self.normals :]
        between = self.angles_LPP[:, n[:, None], m[None, :]].mean(axis=(1, 2))
        within = self.angles_LPP[:, n[:, None], n[None, :]]
        # A prompt drawn twice is at no angle to itself: such pairs are none.
        different = n[:, None] != n[None, :]
        return np.asarray(between - within[:, different].mean(axis=1))

    def bootstrap_gaps(self, draws: int, seed: int) -> Floats:
        """Return gaps of prompts drawn anew with replacement, normal and malicious ones apart: [draws, L]."""
        malicious = self.angles_LPP.shape[1] - self.normals
        n = resample_indices(self.normals, draws, seed)
        m = self.normals + resample_indices(malicious, draws, seed + 1)
        return np.stack([self.gap(np.concatenate(pair)) for pair in zip(n, m, strict=True)])

    def shuffled_gaps(self, draws: int, seed: int) -> Floats:
        """Return gaps under shuffled labels, where there is nothing to find: [draws, L]."""
        rng = np.random.default_rng(seed)
        return np.stack([self.gap(rng.permutation(self.angles_LPP.shape[1])) for _ in range(draws)])


def pair_angles(normal_NLH: Tensor, malicious_MLH: Tensor) -> PairAngles:
    """Compare all hidden states at one position with one another, layer by layer."""
    states = np.concatenate([normal_NLH.double().numpy(), malicious_MLH.double().numpy()]).transpose(1, 0, 2)
    unit = states / np.linalg.norm(states, axis=-1, keepdims=True).clip(min=1e-12)
    cosines = np.clip(unit @ unit.transpose(0, 2, 1), -1, 1)
    return PairAngles(cosines, np.degrees(np.arccos(cosines)), normals=len(normal_NLH))


def similarity_curves(pairs: PairAngles) -> dict[str, Curve]:
    """Return the three curves of cosine similarity over all distinct pairs: "N-N", "M-M" and "N-M"."""
    n, size = pairs.normals, pairs.cosines_LPP.shape[1]
    blocks = {"N-N": np.triu_indices(n, 1), "M-M": np.triu_indices(size - n, 1)}
    curves = {}
    for kind, (rows, columns) in blocks.items():
        offset = n if kind == "M-M" else 0
        curves[kind] = _curve(pairs.cosines_LPP[:, rows + offset, columns + offset])
    curves["N-M"] = _curve(pairs.cosines_LPP[:, :n, n:].reshape(len(pairs.cosines_LPP), -1))
    return curves


def drawn_curves(pairs: PairAngles, draws: int, seed: int) -> tuple[dict[str, Curve], Floats]:
    """Return the curves and the gap from `draws` drawn pairs of each kind, as the paper does."""
    rng = np.random.default_rng(seed)
    n, size = pairs.normals, pairs.cosines_LPP.shape[1]
    ends = {"N-N": ((0, n), (0, n)), "M-M": ((n, size), (n, size)), "N-M": ((0, n), (n, size))}
    curves, angles = {}, {}
    for kind, (left, right) in ends.items():
        first = rng.integers(*left, size=draws)
        second = rng.integers(*right, size=draws)
        second = np.where(first == second, right[0] + (second - right[0] + 1) % (right[1] - right[0]), second)
        curves[kind] = _curve(pairs.cosines_LPP[:, first, second])
        angles[kind] = pairs.angles_LPP[:, first, second].mean(axis=1)
    return curves, angles["N-M"] - angles["N-N"]


def _curve(values_LK: Floats) -> Curve:
    return Curve(mean=tuple(values_LK.mean(axis=1).tolist()), deviation=tuple(values_LK.std(axis=1).tolist()))
