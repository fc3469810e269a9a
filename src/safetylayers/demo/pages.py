"""The demo's report."""

from __future__ import annotations

from safetylayers.demo.study import DemoResult
from safetylayers.evaluate import ModelScores
from safetylayers.evaluate.pages import evaluation_sections, first_scores
from safetylayers.locate import SafetyMap
from safetylayers.locate.pages import map_sections, provenance_rows
from safetylayers.report import Code, KeyFigure, KeyFigures, Measure, Page, Part, Section


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
            *evaluation_sections(demo.evaluation, highlighted=("sppft", "sppft-lora")),
            *map_sections(found),
            Section("Make it again", [Code("safetylayers demo")]),
        ],
        provenance=provenance_rows(found.record),
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
