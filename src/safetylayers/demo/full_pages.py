"""The full study's page, and its table as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from safetylayers.demo.full import Cell, FullResult
from safetylayers.locate import SafetyMap
from safetylayers.locate.pages import map_sections, provenance_rows
from safetylayers.records import Estimate
from safetylayers.report import (
    Axis,
    Bar,
    Callout,
    Code,
    Dot,
    ForestChart,
    Measure,
    Page,
    Part,
    ScatterChart,
    Section,
    Table,
)
from safetylayers.report import Cell as TableCell

NOTE = (
    "Each value is the mean over seeds; its 95 % interval is a bootstrap over prompts. "
    "freeze:A-B holds other layers still and is the control."
)


def full_page(study: FullResult, found: SafetyMap) -> Page:
    """Return the page: what held, then attack by attack, then the map."""
    by_attack = _by_attack(study)
    return Page(
        title="What undoes the practice model's safety, and what keeps it?",
        lead=f"The paper's fine-tuning attacks, {study.steps} steps at {study.learning_rate:g} for every method. "
        f"Safety layers: {study.first} to {study.last}.",
        summary=[_verdict(study), _overview(study)],
        sections=[
            *(
                Section(f"The {before.attack} attack", _attack(before, by_attack[before.attack]))
                for before in study.before
            ),
            *map_sections(found),
            Section("Make it again", [Code("safetylayers demo --full")]),
        ],
        provenance=provenance_rows(found.record),
    )


def _by_attack(study: FullResult) -> dict[str, list[Cell]]:
    return {name: list(cells) for name, cells in groupby(study.cells, key=lambda cell: cell.attack)}


def _first(rates: dict[str, Estimate]) -> Estimate:
    return next(iter(rates.values()))


def _percent(estimate: Estimate) -> Measure:
    return Measure.of(estimate, unit="%")


def _verdict(study: FullResult) -> Part:
    """Say for which attacks SPPFT helped, by the interval of its difference from training all layers."""
    sppft = [cell for cell in study.cells if cell.method == "sppft" and cell.harmful_against_full]
    helped = [c.attack for c in sppft if c.harmful_against_full and c.harmful_against_full.high < 0]
    harmed = [c.attack for c in sppft if c.harmful_against_full and c.harmful_against_full.low > 0]
    rest = [c.attack for c in sppft if c.attack not in helped + harmed]
    parts = [
        f"{what}: {', '.join(names)}."
        for what, names in (
            ("Holding the safety layers still lowered the harmful rate", helped),
            ("It raised it", harmed),
            ("No difference can be told", rest),
        )
        if names
    ]
    return Callout("Verdict", " ".join(parts), kind="good" if helped and not harmed else "warning")


def _overview(study: FullResult) -> Table:
    methods = list(dict.fromkeys(cell.method for cell in study.cells))
    rates = {(cell.attack, cell.method): _percent(_first(cell.harmful_rate)) for cell in (*study.before, *study.cells)}
    rows: list[Sequence[TableCell]] = [
        (before.attack, *(rates[before.attack, method] for method in ("before", *methods))) for before in study.before
    ]
    return Table("Harmful rate by attack and method", ("attack", "before", *methods), rows, note=NOTE)


def _attack(before: Cell, cells: Sequence[Cell]) -> list[Part]:
    rows: list[Sequence[TableCell]] = [
        (
            cell.method,
            *map(_percent, cell.harmful_rate.values()),
            f"{100 * cell.seeds[0]:.0f} to {100 * cell.seeds[1]:.0f} %",
            _percent(_first(cell.over_refusal_rate)),
            _percent(cell.right_rate),
        )
        for cell in (before, *cells)
    ]
    return [
        ForestChart(
            "Harmful rate by method",
            x=Axis("harmful rate", "%", low=0),
            bars=[
                Bar(c.method, _percent(_first(c.harmful_rate)), highlighted=c.method.startswith("sppft")) for c in cells
            ],
            reference=_first(before.harmful_rate).mean,
            reference_label="before",
        ),
        ScatterChart(
            "Harmful rate against task score",
            x=Axis("questions right", "%"),
            y=Axis("harmful rate", "%"),
            dots=[Dot(c.method, _percent(c.right_rate), _percent(_first(c.harmful_rate))) for c in (before, *cells)],
            better="bottom right",
        ),
        Table(
            "By both judges",
            (
                "method",
                *(f"harmful ({judge})" for judge in before.harmful_rate),
                "seeds",
                "over-refusal",
                "questions right",
            ),
            rows,
            note=f"Seeds: lowest and highest harmful rate of a single one. {NOTE}",
        ),
    ]


def full_rows(study: FullResult) -> list[tuple[str, ...]]:
    """Return the study's table: a header, then one row an attack and method, by the first judge."""
    rows: list[tuple[str, ...]] = [("attack", "method", "harmful rate", "over-refusal", "questions right")]
    by_attack = _by_attack(study)
    for cell in (cell for before in study.before for cell in (before, *by_attack[before.attack])):
        rates = (_first(cell.harmful_rate), _first(cell.over_refusal_rate), cell.right_rate)
        rows.append((cell.attack, cell.method, *(_percent(rate).full_text for rate in rates)))
    return rows
