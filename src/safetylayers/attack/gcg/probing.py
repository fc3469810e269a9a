"""Probe sampling: a small model reads all candidates, the target only those that are worth it.

This is arXiv 2403.01251, section 3. The target reads a few candidates drawn at random. The better both models agree on
the order of these, the fewer of the candidates that the small model likes best the target has to read.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from safetylayers.attack.gcg.layout import Tokens
from safetylayers.attack.gcg.reading import Reader

Scored = tuple[float, Tokens]
"""A loss of the target, and its suffix."""
PROBED = 16
"""One candidate of so many is read by both models."""
REDUCED = 8
"""Where they do not agree at all, the target reads one of so many besides."""


def probed(target: Reader, draft: Reader, rows: Sequence[Tokens], generator: torch.Generator) -> list[Scored]:
    """Return the candidates that the target has read.

    Args:
        target: reads few.
        draft: reads all.
        rows: the candidates.
        generator: draws the probes.
    """
    guesses = draft.losses(rows)
    order = torch.randperm(len(rows), generator=generator).tolist()
    probes = order[: max(2, len(rows) // PROBED)]
    known = target.losses([rows[index] for index in probes])
    count = round((1 - agreement(known, [guesses[index] for index in probes])) * len(rows) / REDUCED)
    promising = sorted(order[len(probes) :], key=guesses.__getitem__)[: max(1, count)]
    losses = known + (target.losses([rows[index] for index in promising]) if promising else [])
    return [(loss, rows[index]) for loss, index in zip(losses, [*probes, *promising], strict=True)]


def agreement(first: Sequence[float], second: Sequence[float]) -> float:
    """Return Spearman's rank correlation moved to 0 to 1; 0.5 of fewer than two numbers."""
    count = len(first)
    if count < 2:
        return 0.5
    first_ranks, second_ranks = (np.argsort(np.argsort(values, kind="stable")) for values in (first, second))
    return 1 - 3 * int(((first_ranks - second_ranks) ** 2).sum()) / (count * (count**2 - 1))
