"""How far two rewards are apart, where what cannot be told from choices does not count."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from safetylayers.align.bayes import Array
from safetylayers.errors import UsageError


def centred(rewards: ArrayLike, prompts: Sequence[int]) -> Array:
    """Return rewards [N] less their mean over the replies to the same prompt.

    Choices between replies to one prompt, and policies under a KL bound, do not depend on a shift a prompt. A request
    with its reply is a decision of one step, so this is the canonical form of EPIC (arXiv 2006.13900, definition 4.1),
    with the replies that are given as its distribution over actions.
    """
    found_N = np.asarray(rewards, dtype=float).copy()
    which = np.asarray(prompts)
    for prompt in np.unique(which):
        found_N[which == prompt] -= found_N[which == prompt].mean()
    return found_N


def epic_distance(first: ArrayLike, second: ArrayLike, prompts: Sequence[int]) -> float:
    """Return the EPIC distance of two rewards of the same replies: 0 is equal up to shift and scale, 1 opposite.

    Args:
        first: one reward, [N].
        second: the other, [N].
        prompts: which prompt each reply answers, [N].

    Raises:
        UsageError: they differ in length, or one is constant for each prompt, so that nothing can be compared.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if a.shape != b.shape or a.ndim != 1 or len(prompts) != len(a):
        raise UsageError("Rewards of different replies cannot be compared.", mend="Score the same replies by both.")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise UsageError("A reward is not a number.", mend="Look at the replies that it scores.")
    whole = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    a, b = centred(a, prompts), centred(b, prompts)
    apart = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    length = apart[0] * apart[1]
    if any(left <= 1e-9 * all_of_it for left, all_of_it in zip(apart, whole, strict=True)):
        raise UsageError("A reward that never differs says nothing.", mend="Give several replies to each prompt.")
    return float(np.sqrt(max(0.0, (1 - float(a @ b) / length) / 2)))
