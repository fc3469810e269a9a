"""Safety layers as a page: what they tell apart, under which shifts they fail, and what they change."""

from __future__ import annotations

from collections.abc import Sequence

from safetylayers.attach.calibration import NEVER_BELOW
from safetylayers.attach.gate import REFUSAL
from safetylayers.attach.layers import LayersRecord
from safetylayers.attach.records import Health
from safetylayers.attach.scores import HeadScore
from safetylayers.evaluate import Evaluation
from safetylayers.evaluate.pages import evaluation_sections
from safetylayers.report import (
    Axis,
    Bar,
    Callout,
    Facts,
    ForestChart,
    KeyFigure,
    KeyFigures,
    Measure,
    Page,
    Part,
    Section,
    Table,
)

PLACES = {
    "map": "the safety layers of the map",
    "heads": "where heads tell most, since the model has no safety layers",
    "user": "as its maker asked",
}


def layers_page(record: LayersRecord, comparison: Evaluation) -> Page:
    """Return the report of one model's safety layers, with and without them."""
    source = record.provenance
    attached = comparison.models[1].name  # the bare model comes first
    return Page(
        title=f"Built-in safety layers of {source.model}",
        lead=f"Heads on {_layers(record)} ({PLACES[record.placed_by]}); the gate and the correction are on layer "
        f"{record.layers[-1]}. While the gate is closed, the model's outputs are bitwise what they were.",
        summary=_summary(record.health),
        sections=[
            *evaluation_sections(comparison, highlighted=(attached,)),
            Section("What the heads tell apart", _heads(record)),
            Section("What opens the gate", [_thresholds(record)]),
        ],
        provenance={
            "model": source.model,
            "weights": source.model_hash[:16],
            "map": record.map_hash[:16],
            **{f"data: {name}": digest[:16] for name, digest in source.data.items()},
            "template, seed": f"{record.template}, {source.seed}",
            "versions": ", ".join(f"{name} {version}" for name, version in source.versions.items()),
        },
    )


def _layers(record: LayersRecord) -> str:
    first, last = record.layers[0], record.layers[-1]
    return f"layer {first}" if first == last else f"layers {first} to {last}"


def _summary(health: Health | None) -> Sequence[Part]:
    if health is None:
        return []
    figures = [
        KeyFigure("malicious prompts that open the gate", Measure.of(health.recall).text),
        KeyFigure(
            "normal prompts that open it", Measure.of(health.false_alarms).text, note="thresholds were set on them"
        ),
        KeyFigure("refusals behind an open gate", Measure.of(health.corrected).text),
    ]
    return [KeyFigures(figures)]


def _heads(record: LayersRecord) -> list[Part]:
    if not record.scores:
        return [Callout("Not trained", "The map's own probe serves; its figures are in the map's report.")]
    known = [score for score in record.scores if not score.shift]
    shifted = [score for score in record.scores if score.shift]
    return [
        _scores("Rows that the heads were not trained on", known),
        ForestChart(
            "AUROC of the harm head when requests are asked in another way, and when hidden states are moved",
            x=Axis("AUROC", low=0),
            bars=[Bar(score.shift, _auroc(score)) for score in shifted],
            reference=0.5,
            reference_label="chance",
            note="Moved: projected gradient descent by somebody who knows the heads.",
        ),
        _scores("The same in numbers", shifted),
    ]


def _auroc(score: HeadScore) -> Measure:
    return Measure(score.auroc, low=score.interval[0], high=score.interval[1])


def _scores(caption: str, scores: Sequence[HeadScore]) -> Table:
    return Table(
        caption,
        ("head, position", "shift", "AUROC", "found at 1 % false alarms", "at 0.1 %", "rows"),
        [
            (
                f"{score.head}, {score.kind}",
                score.shift or "none",
                _auroc(score),
                score.recall["0.01"],
                score.recall["0.001"],
                f"{score.positives} + {score.negatives}",
            )
            for score in scores
        ],
    )


def _limit(value: float) -> str:
    return f"{value:.2f}" if value < NEVER_BELOW else "never"


def _thresholds(record: LayersRecord) -> Part:
    rows = {}
    for head, known in record.calibration.items():
        limits = known.thresholds
        rows[head] = (
            f"prompt's end {_limit(limits.prompt)}, mean of the reply {_limit(limits.mean)}, "
            f"its peak {_limit(limits.peak)}"
            if limits
            else "only watched"
        )
    gate = record.gate
    rows["strength"] = f"{gate.weakest:g} at the threshold, {gate.strongest:g} from {gate.ramp:g} above it on"
    rows["closes"] = f"{gate.release:g} below the threshold"
    rows["ends the reply"] = (
        f"after {gate.patience} tokens behind an open gate without a refusal" if REFUSAL in record.heads else "never"
    )
    return Facts(rows)
