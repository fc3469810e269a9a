"""What is known of a reward's accuracy, as parts of a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from safetylayers.align.accuracy import Accuracy
from safetylayers.align.asked import Asked
from safetylayers.align.reward_record import RewardTest, ValueRecord
from safetylayers.records import Rate
from safetylayers.report import Axis, Bar, Callout, ForestChart, Measure, Paragraph, Part, Section, Table
from safetylayers.report.tables import Cell

RIGHT = Axis("right", "%", low=0.0, high=1.0)


def accuracy_chart(caption: str, known: Mapping[str, Accuracy]) -> ForestChart:
    """Return the accuracy of each beside its baselines."""
    bars = []
    for name, each in known.items():
        bars.append(Bar(name, Measure.of(each.accuracy)))
        bars += [Bar(f"{name}, {base} alone", Measure.of(rate)) for base, rate in each.baselines.items()]
    return ForestChart(caption, RIGHT, bars)


def reliability_chart(name: str, known: Accuracy) -> ForestChart:
    """Return, by how sure the choices were foreseen, by how much more or less of it came true."""
    bars = []
    for each in known.reliability:
        come, low, high = (end - each.foreseen for end in (each.right.value, *each.right.interval))
        gap = Measure(come, low, high, unit="points", signed=True)
        bars.append(Bar(f"{_percent(each.foreseen)} foreseen, {_percent(each.right.value)} right", gap))
    return ForestChart(
        f"{name}: what came true, less what was foreseen",
        Axis("right less foreseen", "points"),
        bars,
        reference=0.0,
        reference_label="as foreseen",
        note="Choices in ten parts, the least sure first. Left of the line the reward was surer than it had reason to "
        f"be. On average over all choices it is {100 * known.calibration:.1f} points off (expected calibration error); "
        "of few choices even an honest reward is some points off.",
    )


def group_charts(known: Mapping[str, Accuracy]) -> list[Part]:
    """Return accuracy by category and by source, where there are any."""
    found: list[Part] = []
    for what, groups in (
        ("category", {name: each.categories for name, each in known.items()}),
        ("source", {name: each.sources for name, each in known.items()}),
    ):
        bars = [Bar(text, Measure.of(rate)) for text, rate in _by_group(groups).items()]
        if bars:
            note = "With many groups some differ by chance alone; of few choices little is known."
            found.append(ForestChart(f"Right by {what}", RIGHT, bars, note=note))
    return found


def _by_group(groups: Mapping[str, Mapping[str, Rate]]) -> dict[str, Rate]:
    several = len(groups) > 1
    return {
        f"{f'{name}: ' if several else ''}{group} ({rate.total})": rate
        for name, rates in groups.items()
        for group, rate in rates.items()
    }


def held_out_section(known: Mapping[str, ValueRecord]) -> Section:
    """Return what is known of the choices that were learned from, each held out in its turn."""
    rows: list[Sequence[Cell]] = [
        (name, each.choices, each.accuracy, round(each.calibration, 3), round(each.precision, 4))
        for name, each in known.items()
    ]
    header = ("value", "choices", "right", "calibration error", "prior's precision")
    reading = Paragraph(
        "A choice is held out with all others about its prompt. Scores are in the typical gap between the two replies "
        "of a choice, and mean something between replies to one prompt only: choices do not tell a shift a prompt."
    )
    parts: list[Part] = [
        accuracy_chart("Held-out choices told right", known),
        Table("Each value's reward", header, rows),
        reading,
        *group_charts(known),
        *(reliability_chart(name, each) for name, each in known.items()),
    ]
    return Section("Held-out choices", parts)


def other_section(name: str, test: RewardTest) -> Section:
    """Return what was found on a file of other choices."""
    parts: list[Part] = [
        Paragraph(left_out(test)),
        accuracy_chart("Told right, never learned from", {name: test}),
    ]
    if len(test.values) > 1:
        bars = [Bar(value, Measure.of(rate)) for value, rate in test.values.items()]
        parts.append(ForestChart("Right by value", RIGHT, bars))
    return Section(f"Other choices: {name}", [*parts, *group_charts({name: test}), reliability_chart(name, test)])


def left_out(test: RewardTest) -> str:
    """Say what was counted, and what was not."""
    told = f"{test.accuracy.total} choices counted."
    if test.seen:
        told += f" Left out, about prompts that were learned from: {test.seen}."
    if test.unknown:
        told += f" Left out, about values that were not learned: {test.unknown}."
    if test.unfamiliar:
        told += f" A reply unlike those learned from is in {test.unfamiliar}: there, probabilities cannot be relied on."
    return told


def asked_section(asked: Asked) -> Section:
    """Return what a values file asks for, against what was learned."""
    rows: list[Sequence[Cell]] = [(name, each.weight, each.choices) for name, each in asked.values.items()]
    rows += [(name, None, "not named in the file") for name in asked.beside]
    if asked.lacking:
        text = f"No choices are about {', '.join(asked.lacking)}: give pairs whose 'value' names them."
        verdict = Callout("The file's total cannot be formed", text, "warning")
    else:
        verdict = Callout("The reward's total", asked.total, "note")
    return Section("What the values file asks for", [verdict, Table("Values", ("value", "weight", "choices"), rows)])


def choosers_section(known: Mapping[str, ValueRecord], people: int) -> Section:
    """Return how far everybody's choices count."""
    rows: list[Sequence[Cell]] = [
        (
            who,
            name,
            each.choices,
            Measure(each.reliability, *each.interval),
            _percent(each.agreement),
            "yes" if each.apart else "",
        )
        for name, value in known.items()
        for who, each in value.choosers.items()
    ]
    if not rows:
        text = "All choices count alike, whoever made them; `--people` weighs people by how far others bear them out."
        return Section("Who chose", [Paragraph(f"{people} people. {text}")])
    header = ("who", "value", "choices", "counts as much as", "agrees with the others' reward", "apart")
    note = "1 is the average person. Those apart may be guessing, or value something else."
    return Section("Who chose", [Table("How far each one's choices count", header, rows, note=note)])


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
