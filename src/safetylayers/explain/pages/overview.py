"""What a model refuses for, as a page."""

from __future__ import annotations

from safetylayers.explain.overview import Overview
from safetylayers.report import KeyFigure, KeyFigures, Page, Section, Table

SHOWN = 40
"""Prompts in the table."""


def overview_page(found: Overview) -> Page:
    """Return the page of a whole prompt set."""
    (name, digest), *_ = found.provenance.data.items()
    return Page(
        title=f"What {found.provenance.model} refuses for",
        lead=found.sentence,
        summary=[
            KeyFigures(
                [
                    KeyFigure("prompts", str(found.refused.total)),
                    KeyFigure("refused", f"{100 * found.refused.value:.1f} %"),
                    KeyFigure(
                        "settled most often at layer", str(_most(found.settled)), note="along the refusal direction"
                    ),
                ]
            )
        ],
        sections=[
            Section("For which words", [_words(found)]),
            *([Section("Of which kind", [_categories(found)])] if found.by_category else []),
            Section("At which layer", [_layers(found)]),
            Section("Prompt by prompt", [_prompts(found)]),
        ],
        provenance={
            "model": found.provenance.model,
            "weights": found.provenance.model_hash[:16],
            f"data: {name}": digest[:16],
            "method": found.method,
        },
    )


def _most(settled: tuple[int, ...]) -> int:
    return max(range(len(settled)), key=settled.__getitem__)


def _words(found: Overview) -> Table:
    rows = [(each.word, each.effect, each.effect.total, each.refused) for each in found.words]
    return Table(
        "Words by what they do to the refusal log-odds of the refused prompts that they stand in",
        ("word", "mean score, nats", "refused prompts", "refused, of all prompts with it"),
        rows,
        note="Scores say what moved this model; they are not shown to be causes one by one.",
    )


def _categories(found: Overview) -> Table:
    rows = sorted(found.by_category.items(), key=lambda pair: -pair[1].value)
    return Table("Refusals by category", ("category", "refused"), rows)


def _layers(found: Overview) -> Table:
    return Table(
        "Prompts that come to their final side of the refusal direction",
        ("layer", "prompts"),
        list(enumerate(found.settled)),
        note="Where a side can be read from; patching says what causes it (--causes).",
    )


def _prompts(found: Overview) -> Table:
    rows = [
        (each.prompt, each.category, round(each.refusal_log_odds, 1), each.strongest) for each in found.prompts[:SHOWN]
    ]
    note = "" if len(found.prompts) <= SHOWN else f"The first {SHOWN} of {len(found.prompts)}; the record has all."
    return Table(
        "Most surely refused first", ("prompt", "category", "refusal log-odds", "strongest word"), rows, note=note
    )
