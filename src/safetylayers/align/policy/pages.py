"""A trained policy as a page and as a model card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from safetylayers.align.policy.plan import Look, PolicyResult
from safetylayers.evaluate.pages import evaluation_sections
from safetylayers.evaluate.tables import evaluation_markdown
from safetylayers.records import write_text
from safetylayers.report import (
    Axis,
    Callout,
    Curve,
    CurveChart,
    Facts,
    Line,
    LineChart,
    Page,
    Paragraph,
    Part,
    Section,
    Table,
)
from safetylayers.report.prose import CalloutKind
from safetylayers.report.tables import Cell

if TYPE_CHECKING:
    from safetylayers.evaluate import Evaluation
    from safetylayers.locate import MapChange
    from safetylayers.prompts import Values


def policy_page(
    result: PolicyResult,
    *,
    change: MapChange | None,
    evaluation: Evaluation | None,
    values: Values | None = None,
    reward: Sequence[Section] = (),
) -> Page:
    """Return the report of a policy: what was asked for, what the reward learned of it, what the policy does.

    Args:
        result: of the run.
        change: what became of the safety layers, where that was looked for.
        evaluation: of the model before and after, where there is one.
        values: by which the reward was weighed.
        reward: sections about the reward, as `align.pages.sections_of` returns them.
    """
    source = result.provenance
    return Page(
        title=f"{source.model}, aligned by {result.plan.method}",
        lead=_lead(result),
        sections=[
            Section("What was asked", [*([_values(values)] if values else []), Facts(facts(result))]),
            *reward,
            Section("During training", watched(result)),
            *([Section("The safety layers", _layers(change))] if change else []),
            *(evaluation_sections(evaluation) if evaluation else []),
        ],
        provenance={"model": source.model, "weights": source.model_hash[:16], "seed": str(source.seed)},
    )


def _values(values: Values) -> Table:
    rows: list[Sequence[Cell]] = [(name, each.weight, each.description) for name, each in values.values.items()]
    return Table("Values", ("value", "weight", "asks"), rows)


def _lead(result: PolicyResult) -> str:
    kept = f"The weights are those of step {result.kept_step} of {result.steps}."
    return f"{kept} The run was stopped: {result.stopped}." if result.stopped else kept


def facts(result: PolicyResult) -> dict[str, str]:
    """Return what was asked for and on what, by name."""
    plan = result.plan
    data = ", ".join(f"{name} ({digest[:12]})" for name, digest in result.provenance.data.items())
    held = {"nothing": "nothing", "map": "the safety layers", "others": "everything but the safety layers"}[plan.hold]
    found = {
        "method": plan.method,
        "data": f"{data}, {result.rows} rows; {result.left_out} left out",
        "learning rate": f"{plan.learning_rate:g}",
        "adapters": f"rank {plan.lora_rank}" if plan.lora_rank else "none: all weights",
        "held still": f"{held}: {len(result.held)} tensors, proved bitwise unchanged" if result.held else held,
    }
    if plan.method != "sft":
        found["cost of moving away (beta)"] = f"{plan.beta:g}"
    if plan.reward_hash:
        counted = "gaps have to exceed" if plan.method == "dpo" else "lowered by"
        found["reward"] = f"{plan.reward_hash[:12]}, {counted} {plan.penalty:g} standard deviations"
    return found


def watched(result: PolicyResult) -> list[Part]:
    """Return what was seen of a policy while it was trained."""
    looks = result.looks
    if not looks:
        return [Callout("Not watched", "No prompts were given on which to watch the policy.", "note"), _losses(result)]
    return [*over_optimisation({result.plan.method: looks}), _looks(looks), _losses(result)]


def over_optimisation(runs: dict[str, Sequence[Look]]) -> list[Part]:
    """Return the picture of what is optimised and what is wanted over the distance from the reference.

    Args:
        runs: looks at each run, by its name.
    """
    curves = []
    for name, looks in runs.items():
        one = f"{name}, " if len(runs) > 1 else ""
        proxy = [look for look in looks if look.proxy is not None]
        gold = [look for look in looks if look.gold is not None]
        if proxy:
            curves.append(Curve(f"{one}optimised", [each.kl for each in proxy], [each.proxy or 0.0 for each in proxy]))
        if gold:
            curves.append(
                Curve(
                    f"{one}gold",
                    [each.kl for each in gold],
                    [each.gold or 0.0 for each in gold],
                    [each.gold_error or 0.0 for each in gold],
                )
            )
    if not curves:
        return []
    return [
        CurveChart(
            "Reward over the distance from the reference",
            x=Axis("KL to the reference", "nats a reply", low=0.0),
            y=Axis("mean reward"),
            curves=curves,
        ),
        Paragraph(
            "Each point is a look during training. Where what is optimised rises and gold falls, the policy has found "
            "where the reward is wrong."
        ),
    ]


def _looks(looks: Sequence[Look]) -> Table:
    rows: list[Sequence[Cell]] = [
        (
            look.step,
            f"{look.kl:.2f} ± {look.kl_error:.2f}",
            _number(look.proxy),
            _number(look.deviation),
            _number(look.gold),
            f"{100 * look.refused:.1f} %",
            f"{100 * look.silent:.1f} %",
            f"{100 * look.cut:.1f} %",
            round(look.tokens, 1),
        )
        for look in looks
    ]
    header = ("step", "KL, nats", "optimised", "its deviation", "gold", "refused", "silent", "cut", "tokens")
    return Table("Looks at the policy, on prompts that it does not learn from", header, rows)


def _number(value: float | None) -> Cell:
    return "" if value is None else round(value, 3)


def _losses(result: PolicyResult) -> LineChart:
    return LineChart("Loss", y=Axis("loss"), x=Axis("Step"), lines=[Line("loss", result.losses, first=1)])


def _layers(change: MapChange) -> list[Part]:
    kind: CalloutKind = "good" if change.kind in ("created", "held") else "warning"
    return [
        Callout("Safety layers", change.sentence, kind),
        LineChart(
            "How much the angular gap widened",
            y=Axis("widening", "°"),
            lines=[Line("after less before", change.gap_change)],
            zero_line=True,
        ),
        Table(
            "The safety layers before and after",
            ("", "before", "after"),
            [
                ("layers", _range(change.before), _range(change.after)),
                ("gap's growth at its peak", f"{change.growth_before:.1f}°", f"{change.growth_after:.1f}°"),
                ("malicious prompts refused", change.refused_before, change.refused_after),
            ],
        ),
    ]


def _range(layers: tuple[int, int] | None) -> str:
    return "none" if layers is None else f"{layers[0]} to {layers[1]}"


def write_policy_card(
    folder: Path, result: PolicyResult, *, change: MapChange | None, evaluation: Evaluation | None
) -> Path:
    """Write `README.md` beside the model. Raises OutputError."""
    source = result.provenance
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts(result).items())
    measured = evaluation_markdown(evaluation) if evaluation else "Not measured. To measure: `safetylayers evaluate`."
    return write_text(
        folder / "README.md",
        f"""---
base_model: {source.model}
tags: [safetylayers]
---
# {source.model}, aligned by {result.plan.method}

| | |
| --- | --- |
{rows}

{_lead(result)} {change.sentence if change else "Its safety layers were not looked for."}

## Safety before and after

{measured}
""",
    )
