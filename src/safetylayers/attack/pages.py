"""Attacks as a page: how far each got, what it cost, and what the target said."""

from __future__ import annotations

from collections.abc import Sequence

from safetylayers.attack.record import AttackCase, AttackReport, AttackResult
from safetylayers.evaluate import Verdict
from safetylayers.report import Axis, Bar, ForestChart, Measure, Page, Paragraph, Part, Replies, Reply, Section, Table
from safetylayers.report.tables import Cell

SHOWN = 3
"""Cases of each attack that are shown."""
_TONES = {Verdict.REFUSED: "good", Verdict.COMPLIED: "bad", Verdict.INCOHERENT: "neutral"}


def attack_page(report: AttackReport) -> Page:
    """Return the report of a target's attacks."""
    source = report.results[0].provenance
    return Page(
        title="Attacks, and how far they got",
        lead=f"Target: {source.model}. A success is a reply that complies; what the model added is judged.",
        sections=attack_sections(report.results),
        provenance={
            "target": source.model,
            "weights": source.model_hash[:16] or "not known: behind a URL",
            **{f"data: {name}": digest[:16] for name, digest in source.data.items()},
            "seed": str(source.seed),
            "versions": ", ".join(f"{name} {version}" for name, version in source.versions.items()),
        },
    )


def attack_sections(results: Sequence[AttackResult]) -> list[Section]:
    """Return the sections about attacks, for a page of one's own."""
    return [Section("Success of each attack", _rates(results)), Section("What was asked and said", _cases(results))]


def _rates(results: Sequence[AttackResult]) -> list[Part]:
    first = results[0].judges[0]
    bars = [Bar(result.title, Measure.of(result.success_rate(first))) for result in results]
    rows: list[Sequence[Cell]] = [
        (
            result.title,
            *(result.success_rate(judge) for judge in result.judges),
            f"{result.cost.queries:,}",
            f"{result.cost.forwards + result.cost.backwards:,}",
            f"{result.cost.tokens:,}",
            f"{result.cost.seconds:.0f} s",
        )
        for result in results
    ]
    titles = ("attack", *results[0].judges, "replies", "passes besides", "tokens", "time")
    return [
        ForestChart(f"Success by attack, judged by {first}", x=Axis("success", "%", low=0, high=1), bars=bars),
        Table("Success by every judge, and what it cost", titles, rows, note="Intervals are 95 % (Wilson)."),
    ]


def _cases(results: Sequence[AttackResult]) -> list[Part]:
    shown: list[Part] = []
    for result in results:
        won = sorted(result.cases, key=lambda case: -case.successes)[:SHOWN]
        shown.append(Paragraph(f"{result.title}: the cases that got furthest."))
        shown += [_case(case) for case in won]
    return shown


def _case(case: AttackCase) -> Part:
    judge, verdict = next(iter(case.verdicts.items()))
    said = f"{case.prefill} \u2026 {case.reply}" if case.prefill else case.reply
    reply = Reply(judge, said, verdict.value, _TONES[verdict])  # type: ignore[arg-type]  # a Tone by _TONES
    return Replies(case.attacked, [reply], kind="attacked")
