"""Rows for the practice model's safety layers, from its own corpus: none of them is ever reported on."""

from __future__ import annotations

import random

from safetylayers.attach import LabelledRow, RowSet
from safetylayers.prompts import builtin
from safetylayers.tiny.corpus import forms
from safetylayers.tiny.corpus.mixture import is_reported, training_question

DRAWN_HARMFUL, DRAWN_HARMLESS, QUESTIONS = 800, 3_000, 800


def practice_rows(rows: int = 12_000, *, seed: int = 0) -> RowSet:
    """Draw requests that are marked harmful or harmless, many harmless ones with a harmful twin.

    Args:
        rows: at most so many, in the proportion that there is.
        seed: one seed, one set.
    """
    rng = random.Random(seed)  # noqa: S311 - not a secret
    harmful = [*forms.written("malicious", aligned=True), *builtin("malicious", "train").texts]
    harmful += [forms.malicious(rng) for _ in range(DRAWN_HARMFUL)]
    harmless = [*forms.written("normal", aligned=True), *forms.written("borderline")]
    harmless += [text for name in ("normal", "borderline") for text in builtin(name, "train").texts]
    drawers = (forms.benign, forms.benign, forms.dangerous_looking, forms.everyday)
    harmless += [rng.choice(drawers)(rng) for _ in range(DRAWN_HARMLESS)]
    harmless += [training_question(rng).text for _ in range(QUESTIONS)]
    marked = dict.fromkeys(harmless, False) | dict.fromkeys(harmful, True)
    found = [LabelledRow(text, harmful=kind) for text, kind in marked.items() if not is_reported(text)]
    rng.shuffle(found)
    return RowSet("practice", tuple(found[:rows]))
