"""Screening and restoring as pages."""

from __future__ import annotations

from collections.abc import Sequence

from safetylayers.finetune.restore import Candidate, RestoreResult, gain_kept
from safetylayers.finetune.screen import ScreenResult
from safetylayers.prompts import ExampleSet
from safetylayers.records import Provenance
from safetylayers.report import Axis, Callout, Dot, Line, LineChart, Marker, Measure, Page, ScatterChart, Section, Table
from safetylayers.report.tables import Cell

SHOWN = 30
"""Flagged rows that the page shows."""
LONGEST = 160
"""Characters of a request or reply that it shows."""


def screen_page(result: ScreenResult, data: ExampleSet, places: Sequence[str]) -> Page:
    """Return the report of a screening.

    Args:
        result: what was found.
        data: the rows.
        places: where each row stands, such as "rows.jsonl, line 17".
    """
    flagged = result.flagged
    rows: list[Sequence[Cell]] = [
        (
            places[index],
            result.scores[index],
            "; ".join(result.reasons(index)),
            _short(data.examples[index].prompt),
            _short(data.examples[index].response),
        )
        for index in flagged[:SHOWN]
    ]
    first, last = result.layers
    return Page(
        title="Rows that would move the model toward compliance",
        lead=f"{len(flagged)} of {len(data)} rows of {data.name} are flagged. Limits come from {result.limits_from}.",
        sections=[
            Section("Scores of all rows", [score_chart(result)]),
            Section(
                "Flagged rows",
                [Table("The highest scores", ("row", "score", "why", "request", "reply"), rows)]
                if rows
                else [Callout("No row reaches its limit", "That is no proof that the rows are harmless.", "note")],
            ),
        ],
        provenance={"safety layers": f"{first} to {last}", **_source(result.provenance)},
    )


def score_chart(result: ScreenResult) -> LineChart:
    """Return each signal's sorted scores over the share of the rows; the limit is at 1."""
    lines = [Line(name, _percentiles(signal.scores)) for name, signal in result.signals.items()]
    share = len(result.flagged) / len(result.scores)
    return LineChart(
        "Sorted scores; at 1 a row is flagged",
        y=Axis("score"),
        lines=lines,
        x=Axis("Rows, sorted by each signal", "percentile"),
        markers=[Marker(100 * (1 - share), f"{100 * share:.1f} % flagged")],
        zero_line=True,
    )


def _percentiles(scores: Sequence[float]) -> list[float]:
    ordered = sorted(scores)
    return [max(-1.0, ordered[round(share / 100 * (len(ordered) - 1))]) for share in range(101)]


def restore_page(result: RestoreResult) -> Page:
    """Return the report of a search for the cheapest repair."""
    kind = "good" if result.reached else "warning"
    first, last = result.layers
    chosen = f"strength {result.chosen.strength:g} at layers {first} to {last}, {result.chosen.elsewhere:g} elsewhere"
    rows: list[Sequence[Cell]] = [
        (
            name,
            one.strength or None,
            one.elsewhere if one.strength else None,
            one.harmful_rate,
            one.task_loss,
            _kept(one, result),
            one.moved,
        )
        for name, one in (
            ("aligned", result.aligned),
            ("tuned", result.tuned),
            *((result.method, one) for one in result.candidates),
        )
    ]
    highlighted = [2 + result.candidates.index(result.chosen)]
    return Page(
        title=f"{result.provenance.model}, restored by {result.method}",
        lead=f"Chosen on the calibration prompts: {chosen}.",
        summary=[Callout(verdict(result), kind=kind)],  # type: ignore[arg-type]  # one of the kinds of callouts
        sections=[
            Section(
                "What was tried",
                [
                    *([tradeoff(result)] if result.chosen.task_loss is not None else []),
                    Table(
                        "Every candidate",
                        (
                            "",
                            f"at layers {first} to {last}",
                            "elsewhere",
                            "harmful rate",
                            "task loss",
                            "gain kept",
                            "moved",
                        ),
                        rows,
                        highlighted=highlighted,
                        note="Task loss is in nats a token. The choice was made on these very prompts: measure the "
                        "restored model on others.",
                    ),
                ],
            )
        ],
        provenance=_source(result.provenance),
    )


def tradeoff(result: RestoreResult) -> ScatterChart:
    """Return harmful rate against task loss."""
    named = [("aligned", result.aligned), ("tuned", result.tuned), ("restored", result.chosen)]
    dots = [Dot(name, Measure(one.task_loss or 0.0), Measure.of(one.harmful_rate)) for name, one in named]
    return ScatterChart(
        "Harmful rate against the task's loss; whiskers are 95 % intervals",
        x=Axis("task loss, nats a token"),
        y=Axis("harmful rate", "%"),
        dots=dots,
        better="bottom left",
    )


def verdict(result: RestoreResult) -> str:
    """Return what was reached, in one sentence."""
    rates = (
        f"harmful rate {result.chosen.harmful_rate} on the calibration prompts; tuned {result.tuned.harmful_rate}, "
        f"aligned {result.aligned.harmful_rate}"
    )
    kept = result.gain_kept
    task = "" if kept is None else f"; {100 * kept:.0f} % of the task's gain kept"
    return f"{'Restored' if result.reached else 'Not restored'}: {rates}{task}."


def _kept(one: Candidate, result: RestoreResult) -> Measure | None:
    kept = gain_kept(one, result.aligned, result.tuned)
    return None if kept is None else Measure(kept, unit="%")


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _source(source: Provenance) -> dict[str, str]:
    return {
        "model": source.model,
        "weights": source.model_hash[:16],
        **{f"data: {name}": digest[:16] for name, digest in source.data.items()},
        "seed": str(source.seed),
        "versions": ", ".join(f"{name} {version}" for name, version in source.versions.items()),
    }
