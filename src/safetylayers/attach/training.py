"""From a map and rows to safety layers: replies, hidden states, heads, calibration, correction, measurement."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from safetylayers.attach.calibration import Scored, calibrate
from safetylayers.attach.correction_training import CorrectionTraining, train_correction
from safetylayers.attach.gate import HARM, REFUSAL, GateSettings
from safetylayers.attach.head_training import HeadTraining, train_heads
from safetylayers.attach.health import examine
from safetylayers.attach.layers import LayersRecord, SafetyLayers, check_ends
from safetylayers.attach.measure import perturbed_scores, row_scores, shift_scores
from safetylayers.attach.placement import place
from safetylayers.attach.rows import (
    LabelledRow,
    RowSet,
    Split,
    builtin_rows,
    check_labels,
    labels,
    own_replies,
    styled,
    valued,
    with_replies,
)
from safetylayers.attach.scoring import score_rows
from safetylayers.attach.states import read_states
from safetylayers.errors import UsageError
from safetylayers.locate import SafetyMap
from safetylayers.prompts import PromptSet, Template, Values, builtin
from safetylayers.records import ProgressCallback, Provenance

if TYPE_CHECKING:
    from safetylayers.models import ChatModel


@dataclass(frozen=True)
class Training:
    """How safety layers are trained."""

    heads: HeadTraining = field(default_factory=HeadTraining)
    correction: CorrectionTraining = field(default_factory=CorrectionTraining)
    gate: GateSettings = field(default_factory=GateSettings)
    false_positives: float = 0.01
    """Share of plainly harmless replies that may be changed."""
    replies: int = 600
    """So many requests get replies; the others are learnt from as they are asked."""
    measured: int = 400
    """Held-out rows of each kind that shifts and perturbations are measured on."""


def train_layers(
    model: ChatModel,
    map: SafetyMap,  # noqa: A002 - the word of the whole project
    rows: RowSet | None = None,
    *,
    folder: Path,
    values: Values | None = None,
    layers: Sequence[int] | None = None,
    normal: PromptSet | None = None,
    template: Template = "chat",
    training: Training | None = None,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> SafetyLayers:
    """Train safety layers; the model's own weights stay as they are.

    Args:
        model: the model; neither it nor its weights are changed.
        map: its safety map.
        rows: to learn from; by itself the built-in sets' training splits.
        folder: for hidden states and checkpoints: a run that was interrupted goes on from them.
        values: named values, a head each, with examples to learn them from.
        layers: to attach to; by itself the map's, or where heads tell most if it has none.
        normal: plainly harmless prompts that thresholds are set on; by itself the built-in calibration split.
        template: how requests are rendered.
        training: settings.
        seed: of all draws.
        progress: told of every stage.

    Raises:
        WrongModelError: the map is another model's.
        UsageError: there are no such layers, or a setting makes no sense.
        DataError: harmful or harmless rows are lacking, or a value's examples.
        ModelError: the model has no token that ends a text.
        NonFiniteLossError: a loss became NaN or infinite.
        OutputError: the disk cannot hold the hidden states.
    """
    settings = training or Training()
    if not 0 < settings.false_positives < 1:
        raise UsageError(f"A share of {settings.false_positives} makes no sense.", mend="Use one such as 0.01.")
    map.check(model)
    normal = normal or builtin("normal", "calibration")
    given = valued(rows or builtin_rows(), values)
    names = (HARM, REFUSAL, *given.values)
    split = Split.of(given)
    for part in (split.train, split.calibration):
        check_labels(part, names)
    check_ends(model)
    where, placed_by = place(
        model, map, layers, split.train, template, folder, settings.heads, seed=seed, progress=progress
    )

    def replied(some: RowSet, most: int) -> RowSet:
        return with_replies(some, model, template=template, most=most, seed=seed, progress=progress)

    learnt = replied(styled(split.train, seed), settings.replies)
    states = read_states(model, learnt, where, template, folder, progress)
    heads = train_heads(states, learnt.rows, names, settings.heads, seed=seed, progress=progress)

    def score(some: Sequence[LabelledRow]) -> list[Scored]:
        return score_rows(model, heads, where, some, template)

    known = replied(split.calibration, settings.replies // 4).rows
    calibration = calibrate(
        names,
        score(known),
        [{name: labels(row, name) for name in names} for row in known],
        score(own_replies(normal, model, template, harmful=False, progress=progress)),
        settings.gate,
        settings.false_positives,
    )
    correction = train_correction(
        model,
        where[-1],
        learnt.rows,
        template,
        settings.correction,
        settings.gate,
        folder,
        seed=seed,
        progress=progress,
    )
    record = LayersRecord(
        provenance=Provenance(
            model=model.name,
            model_hash=model.weights_hash,
            data={f"rows: {given.name}": given.content_hash, f"normal: {normal.name}": normal.content_hash},
            seed=seed,
        ),
        map_hash=map.content_hash, n_layers=model.n_layers, hidden_size=model.hidden_size,
        layers=where, placed_by=placed_by, template=template, trained=True,
        heads=names, width=settings.heads.width, pools=settings.heads.pools, rank=correction.rank,
        calibration=calibration, gate=settings.gate,
    )  # fmt: skip
    few = _bare(split.test, settings.measured, seed)
    plain = replace(settings.heads, perturbation=0.0)
    rivals = {
        "trained against that": heads,
        "trained without": train_heads(states, learnt.rows, names, plain, seed=seed),
    }
    scores = (
        *row_scores(score, replied(split.test, settings.replies // 4).rows, names, seed),
        *shift_scores(score, few.rows, names.index(HARM), seed),
        *perturbed_scores(rivals, read_states(model, few, where, template, folder / "test"), few.rows, seed),
    )
    made = SafetyLayers(record.model_copy(update={"scores": scores}), heads, correction)
    health = examine(model, made, normal=normal, progress=progress)
    return replace(made, record=made.record.model_copy(update={"health": health}))


def _bare(rows: RowSet, most: int, seed: int) -> RowSet:
    """Return at most so many requests of each kind, without replies."""
    rng = random.Random(seed)  # noqa: S311 - not a secret
    found = []
    for kind in (True, False):
        prompts = sorted({row.prompt for row in rows.rows if row.harmful is kind})
        found += [LabelledRow(text, harmful=kind) for text in rng.sample(prompts, min(most, len(prompts)))]
    return RowSet(rows.name, tuple(found))
