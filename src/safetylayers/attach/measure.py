"""What trained heads are worth on rows that they were not trained on: as they are, shifted, and perturbed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from safetylayers.attach.calibration import Scored
from safetylayers.attach.gate import HARM
from safetylayers.attach.head_training import adversarial_scores
from safetylayers.attach.heads import Heads
from safetylayers.attach.rows import LabelledRow, labels
from safetylayers.attach.scores import HeadScore, head_score
from safetylayers.attach.states import States
from safetylayers.prompts.styles import SHIFTS, TRAINED

if TYPE_CHECKING:
    from safetylayers.prompts.styles import Style

Scorer = Callable[[Sequence[LabelledRow]], list[Scored]]
FEWEST = 10
"""Positives and negatives below which nothing is measured."""
RADII = (0.0, 0.1, 0.2, 0.4)
"""Of perturbations, as shares of a standardised state's usual length."""


def row_scores(score: Scorer, rows: Sequence[LabelledRow], heads: Sequence[str], seed: int) -> list[HeadScore]:
    """Measure every head at prompts' ends and in replies; what too few rows know of is left out.

    A reply counts once, by its last token.
    """
    scored = score(rows)
    found = []
    for k, head in enumerate(heads):
        truths = [labels(row, head) for row in rows]
        # A prompt counts once, however many replies it has among the rows.
        by_prompt = {row.prompt: (s, truth) for row, s, (truth, _) in zip(rows, scored, truths, strict=True)}
        ends = [(s.prompt_end[k], truth) for s, truth in by_prompt.values() if truth is not None]
        replies = [
            (s.reply[-1, k], t) for s, (_, t) in zip(scored, truths, strict=True) if t is not None and len(s.reply)
        ]
        for kind, pairs in (("prompt end", ends), ("reply", replies)):
            positive, negative = ([value for value, truth in pairs if truth is side] for side in (True, False))
            if min(len(positive), len(negative)) >= FEWEST:
                found.append(head_score(head, kind, positive, negative, seed=seed))
    return found


def shift_scores(score: Scorer, rows: Sequence[LabelledRow], harm: int, seed: int) -> list[HeadScore]:
    """Measure the harm head on requests in each style: those it was trained on and those it was not."""
    styles: dict[str, Style] = {f"{name} (trained on)": style for name, style in TRAINED.items()} | dict(SHIFTS)
    found = []
    for name, style in styles.items():
        rng = random.Random(seed)  # noqa: S311 - not a secret
        scored = score([replace(row, prompt=style(row.prompt, rng), reply="") for row in rows])
        positive, negative = (
            [s.prompt_end[harm] for s, row in zip(scored, rows, strict=True) if row.harmful is side]
            for side in (True, False)
        )
        found.append(head_score(HARM, "prompt end", positive, negative, shift=name, seed=seed))
    return found


def perturbed_scores(
    trained: dict[str, Heads], states: States, rows: Sequence[LabelledRow], seed: int
) -> list[HeadScore]:
    """Measure harm heads while somebody who knows them moves the hidden states against them.

    Args:
        trained: heads by how they were trained.
        states: of the rows.
        rows: without replies.
        seed: of the intervals.
    """
    harmful = np.array([row.harmful for row in rows])
    found = []
    for name, heads in trained.items():
        for radius in RADII:
            values = adversarial_scores(heads, states, harmful.tolist(), radius)
            shift = f"states moved by {radius:g}, {name}"
            found.append(head_score(HARM, "prompt end", values[harmful], values[~harmful], shift=shift, seed=seed))
    return found
