"""What all perturbations share: how they are called, what they cost, and what is said in place of a reply."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from safetylayers.errors import UsageError
from safetylayers.records import ProgressCallback
from safetylayers.targets import Reply, Target

WITHHELD = "I'm sorry, but I can't help with that."
"""What is said where a prompt does not reach the model, or no reply is fit to be given."""


@dataclass(frozen=True)
class Passes:
    """What one prompt takes, counted by sequence."""

    replies: int = 1
    """Replies that are written: a forward pass a token."""
    reads: int = 0
    """Forward passes besides."""


def titled(target: Target, perturbation: str, **settings: object) -> str:
    """Return the name of a target behind a perturbation: all that decides its replies is in it."""
    shown = ",".join(f"{name}={_short(value)}" for name, value in settings.items())
    return f"{target.name} through {perturbation}:{shown}"


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def drawing(seed: int, text: str) -> random.Random:
    """Return what draws for one prompt: the same whatever is asked beside it."""
    return random.Random(f"{seed} {text}")  # noqa: S311 - repeatable; serving draws a secret seed


def threshold_at(scores: Sequence[float], false_positives: float) -> float:
    """Return the lowest of the scores that no more than this share of them exceeds.

    Raises:
        UsageError: there are no scores, one is no number, or the share is none.
    """
    if not 0 <= false_positives < 1:
        raise UsageError(f"{false_positives} is no share of false positives.", mend="Give one from 0 to below 1.")
    if not scores or not all(map(math.isfinite, scores)):
        raise UsageError(
            "A threshold cannot be calibrated: scores are missing, or are no numbers.",
            mend="Give prompts to calibrate on, and a model whose weights are whole.",
        )
    return sorted(scores, reverse=True)[int(false_positives * len(scores))]


def reply_where(
    target: Target,
    prompts: Sequence[str],
    openings: Sequence[str] | None,
    passed: Sequence[bool],
    tokens: Sequence[int],
    progress: ProgressCallback | None,
) -> list[Reply]:
    """Let the target reply to the prompts that passed; the others are withheld from it.

    Args:
        target: that replies.
        prompts: all of them.
        openings: of their replies.
        passed: whether each may be asked.
        tokens: that were read of each to decide so; they are added to those of its reply.
        progress: told by the target.
    """
    asked = [index for index, fine in enumerate(passed) if fine]
    begun = [openings[index] for index in asked] if openings is not None else None
    made = target.reply([prompts[index] for index in asked], openings=begun, progress=progress) if asked else []
    replies = dict(zip(asked, made, strict=True))
    withheld = Reply(WITHHELD, withheld=True)
    found = [replies.get(index, withheld) for index in range(len(prompts))]
    return [replace(reply, tokens=reply.tokens + read) for reply, read in zip(found, tokens, strict=True)]
