"""The demo's report."""

from __future__ import annotations

from safetylayers.demo.guarded import ATTACHED
from safetylayers.demo.study import DemoResult
from safetylayers.evaluate import ModelScores
from safetylayers.evaluate.pages import evaluation_sections, first_scores
from safetylayers.locate import SafetyMap
from safetylayers.locate.pages import map_sections, provenance_rows
from safetylayers.report import Code, KeyFigure, KeyFigures, Measure, Page, Part, Section, Table


def demo_page(demo: DemoResult, found: SafetyMap) -> Page:
    """Return the page: the result first, then what it rests on."""
    by_name = {model.name: model for model in demo.evaluation.models}
    return Page(
        title="Can a fine-tune undo the practice model's safety?",
        lead=f"Harmless rows whose answers open compliantly (the {demo.attack} attack), {demo.steps} steps at "
        f"{demo.learning_rate:g} for every method. Safety layers: {demo.first} to {demo.last}. "
        "A frozen block elsewhere is the control.",
        summary=[_key_figures(demo.evaluation.models[0], by_name["full"], by_name["sppft"])],
        sections=[
            *evaluation_sections(demo.evaluation, highlighted=("sppft", "sppft-lora", ATTACHED)),
            Section("Safety layers after the attack", [_revalidated(demo)]),
            *map_sections(found),
            Section("Make it again", [Code("safetylayers demo")]),
        ],
        provenance=provenance_rows(found.record),
    )


def _revalidated(demo: DemoResult) -> Part:
    rows = [
        (name, said.verdict, said.now.auroc, said.now.recall, said.now.false_alarms, said.now.corrected, said.reason)
        for name, said in demo.revalidated.items()
    ]
    return Table(
        "Do layers that were made before the fine-tune still hold after it?",
        ("model", "verdict", "AUROC", "gate opens, malicious", "normal", "refusals behind an open gate", "reason"),
        rows,
        note="Measured on the calibration split, with the thresholds from before.",
    )


def _key_figures(before: ModelScores, full: ModelScores, sppft: ModelScores) -> Part:
    def percent(model: ModelScores) -> str:
        return Measure.of(first_scores(model).harmful_rate).text

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
