"""Held-out probabilities: every choice judged by a model that has seen none about the same prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from safetylayers.align.bayes import Array
from safetylayers.errors import UsageError
from safetylayers.prompts.pairs import PairSet
from safetylayers.records import Rate

FOLDS = 5
Indices = NDArray[np.intp]
Judge = Callable[[Indices, Indices], Array]
"""Takes the indices to learn from and those to judge; returns the probability of each choice that it judges."""


def held_out(prompts: Sequence[str], judge: Judge, seed: int) -> Array:
    """Return the probability of each choice, [N].

    Args:
        prompts: what each choice is about; those about one prompt stay together.
        judge: what learns and judges.
        seed: of the parts.

    Raises:
        UsageError: there are fewer prompts than parts.
    """
    folds = _folds(prompts, seed)
    found = np.empty(len(prompts))
    for fold in range(FOLDS):
        test, train = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        found[test] = judge(train, test)
    return found


def hold_out(pairs: PairSet, seed: int) -> tuple[PairSet, PairSet]:
    """Return choices to learn from, and those about a fifth of the prompts, to be judged. Raises UsageError."""
    folds = _folds(prompts_of(pairs), seed)
    learned, kept = (
        tuple(pair for pair, fold in zip(pairs, folds, strict=True) if (fold == 0) == held) for held in (False, True)
    )
    return PairSet(pairs.name, learned), PairSet(f"{pairs.name}, held out", kept)


def _folds(prompts: Sequence[str], seed: int) -> Indices:
    known, place_N = np.unique(prompts, return_inverse=True)
    if len(known) < FOLDS:
        raise UsageError(
            f"{len(prompts)} choices about {len(known)} prompts cannot be held out.", mend=f"Give {FOLDS} at least."
        )
    return np.asarray((np.random.default_rng(seed).permutation(len(known)) % FOLDS)[place_N])


def prompts_of(pairs: PairSet) -> list[str]:
    """Return what tells the pairs' prompts apart: their whole conversations."""
    return [repr(pair.messages) for pair in pairs]


def prompt_keys(pairs: PairSet) -> list[int]:
    """Return the same as 64 bits of a hash each, which can be kept without keeping what was said."""
    return [int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:8]) for prompt in prompts_of(pairs)]


def right(p_N: Array) -> Rate:
    """Return how many choices were told."""
    return Rate.of(hits(p_N))


def hits(p_N: Array) -> list[bool]:
    """Return which choices were told; of those of which nothing was said (a half), every second one counts."""
    told_N = p_N > 0.5
    told_N[np.flatnonzero(p_N == 0.5)[1::2]] = True
    return [bool(told) for told in told_N]
