"""An audit of a model's values as a page."""

from __future__ import annotations

from collections.abc import Sequence

from safetylayers.align.audit.record import ValueAudit
from safetylayers.report import (
    Axis,
    Bar,
    Callout,
    ForestChart,
    KeyFigure,
    KeyFigures,
    Measure,
    Page,
    Paragraph,
    Part,
    Section,
    Table,
)
from safetylayers.report.tables import Cell

LEAST, LONGEST = 10, 200
"""Prompts, and characters of a text, that the page shows."""
_METHODS = {
    "preference": "Bayesian: which of two replies is the model's is a choice",
    "log-ratio": "maximum entropy: regression of the replies' log-probability ratios",
    "max-margin": "maximum margin: a support vector machine on the replies' scores",
}


def audit_page(record: ValueAudit) -> Page:
    """Return the report of an audit."""
    model, base = record.provenance.model, record.base
    return Page(
        title="What a model seems to optimise",
        lead=f"{model} beside its base {base}: {record.pairs} pairs of replies to {len(record.prompts)} prompts. "
        f"{_METHODS[record.method].capitalize()}.",
        summary=[_verdict(record), _figures(record)],
        sections=[
            Section("Weights of the values", [weights_chart(record), _table(record)]),
            Section("Replies told apart", [told_chart(record), _telling(record)]),
            Section("Where it cannot tell", _undecided(record)),
        ],
        provenance={
            "model": model,
            "weights": record.provenance.model_hash[:16],
            "base": base,
            "base's weights": record.base_hash[:16],
            **{name: content[:16] for name, content in record.provenance.data.items()},
            "seed": str(record.provenance.seed),
        },
    )


def weights_chart(record: ValueAudit) -> ForestChart:
    """Return each value's weight with its interval."""
    bars = [
        Bar(name, Measure(weight.mean, weight.low, weight.high), highlighted=name not in record.undecided)
        for name, weight in record.weights.items()
    ]
    note = "Highlighted: the 95 % interval leaves out 0. The scores' own uncertainty is part of it."
    return ForestChart("What each value weighs", Axis("weight"), bars, reference=0.0, note=note)


def told_chart(record: ValueAudit) -> ForestChart:
    """Return the share of held-out pairs that the weights tell."""
    told = record.held_out
    bar = Bar("model's reply told from base's", Measure(told.mean, told.low, told.high))
    axis = Axis("right", "%", low=0.0, high=1.0)
    return ForestChart("Held-out prompts", axis, [bar], reference=0.5, reference_label="chance")


def _verdict(record: ValueAudit) -> Callout:
    if not record.differs:
        return Callout(
            "Not told apart",
            "On held-out prompts these values tell the two models' replies no better than a coin. The weights say "
            "nothing: the models are alike, or differ in what these values or these prompts do not touch.",
            "warning",
        )
    decided = [name for name in record.weights if name not in record.undecided]
    signs = ", ".join(f"{name} {'up' if record.weights[name].mean > 0 else 'down'}" for name in decided)
    return Callout("The models differ in these values", f"Decided: {signs or 'none by itself'}.", "note")


def _figures(record: ValueAudit) -> KeyFigures:
    told = Measure(record.held_out.mean, record.held_out.low, record.held_out.high, unit="%")
    return KeyFigures(
        [
            KeyFigure("held-out pairs told", told.text, note=told.interval_text),
            KeyFigure("values decided", f"{len(record.weights) - len(record.undecided)} of {len(record.weights)}"),
            KeyFigure("pairs left out, a reply being empty", str(record.empty)),
            KeyFigure("replies unfamiliar to the reward", f"{record.unfamiliar} of {2 * record.pairs}"),
        ]
    )


def _table(record: ValueAudit) -> Table:
    rows: list[Sequence[Cell]] = [
        (
            name,
            Measure(known.mean, known.low, known.high),
            f"{100 * known.above:.1f} %",
            Measure(known.mean, min(known.given_low, known.mean), max(known.given_high, known.mean)).interval_text,
            known.gap,
        )
        for name, known in record.weights.items()
    ]
    header = ("value", "weight", "probability above 0", "were scores certain", "model's mean score less base's")
    note = "A weight is what a value counts while the others stay as they are; the last column leaves that out."
    return Table("Each value", header, rows, note=note)


def _telling(record: ValueAudit) -> Table:
    rows: list[Sequence[Cell]] = [
        (_short(pair.prompt), _short(pair.model), _short(pair.base), Measure(pair.gap, signed=True))
        for pair in record.telling
    ]
    header = ("prompt", "the model's reply", "the base's reply", "gap")
    note = "Above 0, the weights take the model's reply for the model's; below, they are wrong about it."
    return Table("The most telling pairs", header, rows, note=note)


def _undecided(record: ValueAudit) -> list[Part]:
    unsure = sum(prompt.undecided for prompt in record.prompts)
    texts = [
        "A shift a prompt cannot be told, nor how strongly the model was optimised: weights compare values and not "
        "models. A value that the scorer does not name can pass for one that it does.",
        f"Undecided values: {', '.join(record.undecided) or 'none'}.",
        f"On {unsure} of {len(record.prompts)} prompts it is undecided which model's replies are worth more.",
    ]
    if pairs := record.alike():
        listed = "; ".join(f"{one} and {other}" for one, other in pairs)
        texts.append(f"Weights that cannot be told apart (correlation above 0.8 either way): {listed}.")
    if record.unfamiliar:
        texts.append(
            f"{record.unfamiliar} of {2 * record.pairs} replies are unlike all that the reward was learned from; "
            "neither their scores nor their uncertainty can be relied on."
        )
    rows: list[Sequence[Cell]] = [
        (_short(each.prompt), each.pairs, Measure(each.mean, each.low, each.high, signed=True))
        for each in record.prompts[:LEAST]
    ]
    table = Table("Prompts least told", ("prompt", "pairs", "gap"), rows)
    names = list(record.weights)
    linked: list[Sequence[Cell]] = [
        (one, *(f"{record.correlation[one][other]:.2f}" for other in names)) for one in names
    ]
    return [Paragraph("\n\n".join(texts)), Table("Correlation of the weights", ("", *names), linked), table]


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
