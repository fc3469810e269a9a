"""An evaluation as a page: rates side by side, the trade-off, and what the models say."""

from __future__ import annotations

from collections.abc import Sequence

from safetylayers.evaluate.judges import Verdict
from safetylayers.evaluate.scores import Evaluation, JudgeScores, ModelScores
from safetylayers.report import (
    Axis,
    Bar,
    Dot,
    ForestChart,
    Measure,
    Page,
    Part,
    Replies,
    Reply,
    ScatterChart,
    Section,
    Table,
)
from safetylayers.report.tables import Cell

TONES = {Verdict.REFUSED: "good", Verdict.COMPLIED: "bad", Verdict.INCOHERENT: "neutral"}


def evaluation_page(evaluation: Evaluation) -> Page:
    """Return the report of one evaluation."""
    source = evaluation.provenance
    models = ", ".join(model.name for model in evaluation.models)
    versions = ", ".join(f"{name} {version}" for name, version in source.versions.items())
    return Page(
        title="Safety and its cost, side by side",
        lead=f"Models: {models}. Changes are against the first of them, on the same prompts.",
        sections=evaluation_sections(evaluation),
        provenance={
            **{f"weights: {model.name}": model.model_hash[:16] for model in evaluation.models},
            **{f"data: {name}": digest[:16] for name, digest in evaluation.data.items()},
            "seed": str(source.seed),
            "versions": versions,
        },
    )


def evaluation_sections(evaluation: Evaluation, *, highlighted: Sequence[str] = ()) -> list[Section]:
    """Return the sections about an evaluation, for a page of one's own; some models' bars may stand out."""
    return [
        Section("What each model does, and what it cost", _comparison(evaluation, highlighted)),
        Section("What the models say", _replies(evaluation)),
    ]


def first_scores(model: ModelScores) -> JudgeScores:
    """Return a model's scores by the first judge."""
    return next(iter(model.judges.values()))


def _comparison(evaluation: Evaluation, highlighted: Sequence[str]) -> list[Part]:
    models = evaluation.models
    dots = [Dot(m.name, Measure.of(m.exact_match), Measure.of(first_scores(m).harmful_rate)) for m in models]
    bars = [Bar(m.name, Measure.of(first_scores(m).harmful_rate), highlighted=m.name in highlighted) for m in models]
    return [
        ScatterChart(
            "Harmful rate against task score; whiskers are 95 % intervals",
            x=Axis("questions right", "%"),
            y=Axis("harmful rate", "%"),
            dots=dots,
            better="bottom right",
        ),
        ForestChart("Harmful rate by model", x=Axis("harmful rate", "%", low=0), bars=bars),
        _rates(models),
        *([_changes(models)] if len(models) > 1 else []),
    ]


def _rates(models: Sequence[ModelScores]) -> Table:
    rows: list[Sequence[Cell]] = [
        (
            model.name,
            judge,
            scores.harmful_rate,
            scores.over_refusal_rate,
            scores.benign_refusal_rate,
            scores.incoherent_rate,
            model.exact_match,
        )
        for model in models
        for judge, scores in model.judges.items()
    ]
    return Table(
        "All rates, by every judge",
        ("model", "judge", "harmful", "over-refusal", "benign refusal", "incoherent", "questions right"),
        rows,
        note="Judges disagree on " + ", ".join(f"{m.disagreement} ({m.name})" for m in models) + " of all replies.",
    )


def _changes(models: Sequence[ModelScores]) -> Table:
    measures = list(models[1].differences)
    rows: list[Sequence[Cell]] = [
        (model.name, *(Measure.of(model.differences[name], unit="points") for name in measures)) for model in models[1:]
    ]
    return Table(
        f"Change against {models[0].name}, in points, by the first judge",
        ("model", *(name.replace("_", " ") for name in measures)),
        rows,
        note="Intervals are paired bootstraps over the same prompts.",
    )


def _replies(evaluation: Evaluation) -> list[Part]:
    models = evaluation.models
    shown: list[Part] = []
    for index, example in enumerate(models[0].examples):
        replies = []
        for model in models:
            said = model.examples[index]
            verdict = next(iter(said.verdicts.values()))
            harmless = "bad" if verdict is Verdict.REFUSED else "neutral"
            tone = TONES[verdict] if example.prompt_set == "malicious" else harmless
            replies.append(Reply(model.name, said.reply, verdict.value, tone))  # type: ignore[arg-type]  # a Tone by TONES
        shown.append(Replies(example.prompt, replies, kind=example.prompt_set))
    return shown
