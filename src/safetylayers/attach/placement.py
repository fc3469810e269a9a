"""Where to attach: the map's range, or where heads tell most if the model has no safety layers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from safetylayers.attach.gate import HARM
from safetylayers.attach.head_training import CHUNK, HeadTraining, train_heads
from safetylayers.attach.heads import Heads, pooled
from safetylayers.attach.records import PlacedBy
from safetylayers.attach.rows import RowSet
from safetylayers.attach.states import States, read_states
from safetylayers.errors import UsageError
from safetylayers.locate import SafetyMap
from safetylayers.prompts import Template
from safetylayers.records import ProgressCallback
from safetylayers.stats import bootstrap_auroc

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

TRIED_ON = 2_000
"""Rows that heads are tried on at every layer, half of them to measure on."""


def place(
    model: ChatModel,
    found: SafetyMap,
    layers: Sequence[int] | None,
    rows: RowSet,
    template: Template,
    folder: Path,
    settings: HeadTraining,
    *,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> tuple[tuple[int, ...], PlacedBy]:
    """Return the layers to attach to, and who chose them.

    Args:
        model: the model.
        found: its map; its range is taken where it has one.
        layers: the user's own choice, before all others.
        rows: that heads are tried on where neither says anything: the best layer's and the one above it.
        template: how requests are rendered.
        folder: for the hidden states of that trial.
        settings: of the heads.
        seed: of their training.
        progress: told of its stages.

    Raises:
        UsageError: there are no such layers.
    """
    if layers is not None:
        if not layers or min(layers) < 0 or max(layers) >= model.n_layers:
            raise UsageError(
                f"There are no layers {list(layers)}.", mend=f"The model has layers 0 to {model.n_layers - 1}."
            )
        return tuple(sorted(set(layers))), "user"
    if found.found:
        first, last = found.range
        return tuple(range(first, last + 1)), "map"
    best = int(np.argmax(_trial(model, rows, template, folder, settings, seed, progress)))
    return tuple(range(best, min(best + 1, model.n_layers - 1) + 1)), "heads"


def _trial(
    model: ChatModel, rows: RowSet, template: Template, folder: Path, settings: HeadTraining, seed: int,
    progress: ProgressCallback | None,
) -> list[float]:  # fmt: skip
    """Return the held-out AUROC of a harm head at every layer; all layers' heads learn in one run."""
    rng = random.Random(seed)  # noqa: S311 - not a secret
    learnt, kept = [], []
    for kind in (True, False):
        some = [row for row in rows.rows if row.harmful is kind]
        drawn = rng.sample(some, min(TRIED_ON // 2, len(some)))
        learnt += drawn[::2]
        kept += drawn[1::2]
    everywhere = range(model.n_layers)
    tried, kept_back = RowSet("trial", tuple(learnt)), RowSet("held-out", tuple(kept))
    states = read_states(model, tried, everywhere, template, folder / "trial", progress)
    heads = train_heads(states, learnt, (HARM,), settings, seed=seed, progress=progress)
    held_out = read_states(model, kept_back, everywhere, template, folder / "held-out", progress)
    harmful = np.array([row.harmful for row in kept])
    chunks = [range(start, min(start + CHUNK, len(kept))) for start in range(0, len(kept), CHUNK)]
    scores_SB = np.concatenate([_last_scores(heads, held_out, chunk) for chunk in chunks], axis=1)
    return [bootstrap_auroc(one[~harmful], one[harmful], draws=1)[0] for one in scores_SB]


def _last_scores(heads: Heads, states: States, rows: Sequence[int]) -> NDArray[np.float64]:
    """Return each layer's harm score at each row's prompt end: [S, rows]."""
    hidden_SNH, segments_N = states.gather(rows)
    with torch.no_grad():
        scores_SNK = pooled(heads(hidden_SNH), segments_N, len(rows), 1)
    starts = np.cumsum([0, *(states.length(row) for row in rows)])
    ends = [int(start) + states.prompt_lengths[row] - 1 for start, row in zip(starts, rows, strict=False)]
    return np.asarray(scores_SNK[:, ends, 0].double().numpy())
