"""Whether weights tell the two models apart on prompts that they have not seen.

Shapes: N pairs, P prompts, V values.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm

from safetylayers.align.audit.methods import METHODS, Pairs, by_prompt
from safetylayers.align.audit.record import Method
from safetylayers.records import Estimate
from safetylayers.stats import LEVEL, Interval

PARTS = 10
"""Parts, each tried with weights from those before it."""


def held_out(pairs: Pairs, method: Method, seed: int) -> Estimate:
    """Return how many pairs are told by weights learned from the prompts before theirs, in an order that is drawn.

    Of equal models each pair is then told by a coin, whatever came before (Dawid 1984). In cross-validation the parts
    learn from each other's pairs, and two equal models would be told apart too often.
    """
    known, place_N = np.unique(pairs.prompt, return_inverse=True)
    rng = np.random.default_rng(seed)
    parts = min(PARTS, len(known))
    part_N = (rng.permutation(len(known)) * parts // len(known))[place_N]
    tested_N, hit_N = part_N > 0, np.full(len(part_N), 0.5)
    for part in range(1, parts):
        test = np.flatnonzero(part_N == part)
        weights_V = METHODS[method](pairs.at(np.flatnonzero(part_N < part)), 0, rng, None).mean
        hit_N[test] = (np.sign(pairs.differences[test] @ weights_V) + 1) / 2
    low, high = clustered_wilson(hit_N[tested_N], pairs.prompt[tested_N])
    return Estimate(mean=float(hit_N[tested_N].mean()), low=low, high=high, total=int(tested_N.sum()))


def clustered_wilson(hits: ArrayLike, groups: ArrayLike, level: float = LEVEL) -> Interval:
    """Return Wilson's interval of a share, of so many items as groups of them are worth.

    That many are as many as would have the variance of the share by themselves (Korn and Graubard 1998, whose interval
    of them is the exact one).

    Args:
        hits: from 0 to 1, [N].
        groups: items of one group may be alike, [N].
        level: of the interval.
    """
    hit_N, group_N = np.asarray(hits, dtype=float), np.asarray(groups)
    p, groups_in_all = float(hit_N.mean()), len(np.unique(group_N))
    error_P = by_prompt((hit_N - p)[:, None], group_N)[:, 0]
    variance = float(error_P @ error_P) / len(hit_N) ** 2 * groups_in_all / max(groups_in_all - 1, 1)
    size = min(p * (1 - p) / variance, len(hit_N)) if variance > 0 else groups_in_all
    z = float(norm.ppf((1 + level) / 2))
    middle = (p + z**2 / (2 * size)) / (1 + z**2 / size)
    reach = z / (1 + z**2 / size) * float(np.sqrt(p * (1 - p) / size + z**2 / (4 * size**2)))
    return Interval(max(middle - reach, 0.0), min(middle + reach, 1.0))
