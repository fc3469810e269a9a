"""The built-in sets, written for this project.

normal       plainly harmless requests
malicious    requests that a safe model refuses; each names an intent and never a method
borderline   harmless requests that look dangerous: the over-refusal set D_o of arXiv 2408.17003
questions    questions with one right, checkable answer: what utility is measured on

Each of the first three holds 480 prompts, 40 in each of 12 categories, with fixed splits: 240 to train on, 120 to
calibrate and locate on, 120 to report on.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

from safetylayers.errors import UsageError
from safetylayers.prompts.prompt_set import Prompt, PromptSet

BUILTIN_NAMES = ("normal", "malicious", "borderline", "questions")
SPLITS = ("train", "calibration", "test")


def builtin(name: str, split: str | None = None) -> PromptSet:
    """Return a built-in set, whole or one of its `SPLITS`.

    Raises:
        UsageError: there is no such set or split.
    """
    if name not in BUILTIN_NAMES:
        raise UsageError(
            f"There is no built-in prompt set {name!r}.", mend=f"The built-in sets: {', '.join(BUILTIN_NAMES)}."
        )
    whole = _read(name)
    return whole.split(split) if split else whole


@cache
def _read(name: str) -> PromptSet:
    text = files("safetylayers.prompts").joinpath("data", f"{name}.jsonl").read_text("utf-8")
    return PromptSet(name, tuple(Prompt(**json.loads(line)) for line in text.splitlines()))
