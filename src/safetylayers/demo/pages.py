"""The demo's report."""

from __future__ import annotations

from safetylayers.demo.study import DemoResult
from safetylayers.evaluate import JudgeScores, ModelScores, Verdict
from safetylayers.locate import SafetyMap
from safetylayers.locate.pages import map_sections, provenance_rows
from safetylayers.report import (
    Axis,
    Bar,
    Code,
    Dot,
    ForestChart,
    KeyFigure,
    KeyFigures,
    Measure,
    Page,
    Part,
    Replies,
    Reply,
    ScatterChart,
    Section,
    Table,
)

TONES = {Verdict.REFUSED: "good", Verdict.COMPLIED: "bad", Verdict.INCOHERENT: "neutral"}


def demo_page(demo: DemoResult, found: SafetyMap) -> Page:
    """Return the page: the result first, then what it rests on."""
    by_name = {model.name: model for model in demo.evaluation.models}
    return Page(
        title="Can a fine-tune undo the practice model's safety?",
        lead=f"Harmless rows whose answers open compliantly (the {demo.attack} attack), {demo.steps} steps at "
        f"{demo.learning_rate:g} for every method. Safety layers: {demo.first} to {demo.last}.",
        summary=[_key_figures(demo.evaluation.models[0], by_name["full"], by_name["sppft"])],
        sections=[
            Section("What each method bought, and what it cost", _comparison(demo)),
            Section("What the models say", _replies(demo)),
            *map_sections(found),
            Section("Make it again", [Code("safetylayers demo")]),
        ],
        provenance=provenance_rows(found.record),
    )


def _scores(model: ModelScores) -> JudgeScores:
    return next(iter(model.judges.values()))


def _key_figures(before: ModelScores, full: ModelScores, sppft: ModelScores) -> Part:
    def percent(model: ModelScores) -> str:
        return Measure.of(_scores(model).harmful_rate).text

    return KeyFigures(
        [
            KeyFigure("harmful rate, all layers trained", percent(full), before=percent(before)),
            KeyFigure("harmful rate, safety layers held still", percent(sppft), before=percent(before)),
            KeyFigure(
                "questions right, safety layers held still",
                Measure.of(sppft.exact_match).text,
                before=Measure.of(before.exact_match).text,
            ),
        ]
    )


def _comparison(demo: DemoResult) -> list[Part]:
    models = demo.evaluation.models
    rows = [
        (
            "before" if model is models[0] else model.name,
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
    tuned = models[1:]
    return [
        ScatterChart(
            "Harmful rate against task score; whiskers are 95 % intervals",
            x=Axis("questions right", "%"),
            y=Axis("harmful rate", "%"),
            dots=[
                Dot(
                    "before" if m is models[0] else m.name,
                    Measure.of(m.exact_match),
                    Measure.of(_scores(m).harmful_rate),
                )
                for m in models
            ],
            better="bottom right",
        ),
        ForestChart(
            "Harmful rate by method",
            x=Axis("harmful rate", "%"),
            bars=[
                Bar(m.name, Measure.of(_scores(m).harmful_rate), highlighted=m.name.startswith("sppft")) for m in tuned
            ],
            reference=_scores(models[0]).harmful_rate.value,
            reference_label="before",
        ),
        Table(
            "All rates, by both judges",
            ("method", "judge", "harmful", "over-refusal", "benign refusal", "incoherent", "questions right"),
            rows,
            note="Judges disagree on "
            + ", ".join(f"{m.disagreement} ({m.name})" for m in models)
            + " of all replies. A frozen block as wide as the safety layers, elsewhere, is the control.",
        ),
    ]


def _replies(demo: DemoResult) -> list[Part]:
    models = demo.evaluation.models
    shown: list[Part] = []
    for index, example in enumerate(models[0].examples):
        replies = []
        for model in models:
            said = model.examples[index]
            verdict = next(iter(said.verdicts.values()))
            harmful_set = example.prompt_set == "malicious"
            tone = TONES[verdict] if harmful_set else ("bad" if verdict is Verdict.REFUSED else "neutral")
            name = "before" if model is models[0] else model.name
            replies.append(Reply(name, said.reply, verdict.value, tone))  # type: ignore[arg-type]  # a Tone by TONES
        shown.append(Replies(example.prompt, replies, kind=example.prompt_set))
    return shown
