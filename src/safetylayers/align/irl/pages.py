"""Rounds of inverse reinforcement learning as a page."""

from __future__ import annotations

from collections.abc import Sequence

from safetylayers.align.irl.rounds import IrlResult
from safetylayers.align.policy.pages import over_optimisation
from safetylayers.report import Axis, Bar, ForestChart, Measure, Page, Paragraph, Part, Section, Table
from safetylayers.report.tables import Cell


def irl_page(result: IrlResult) -> Page:
    """Return the report of all rounds."""
    source, plan = result.provenance, result.plan
    reads = f"layers {', '.join(map(str, plan.reward.layers))}" if plan.reward.layers else "all weights"
    return Page(
        title="A reward and a policy from demonstrations",
        lead=f"{plan.rounds} rounds from {source.model}; each reward learns on {reads}, each policy by "
        f"{plan.policy.method}.",
        sections=[
            Section("Can the reward still tell the policy from the demonstrations?", _told(result)),
            Section("The policies", _policies(result)),
        ],
        provenance={
            "model": source.model,
            "weights": source.model_hash[:16],
            **{f"data: {name}": digest[:16] for name, digest in source.data.items()},
            "seed": str(source.seed),
        },
    )


def _told(result: IrlResult) -> list[Part]:
    told = [(f"round {n}", each.told) for n, each in enumerate(result.rounds, start=1) if each.told]
    bars = [Bar(name, Measure.of(rate)) for name, rate in told]
    rows: list[Sequence[Cell]] = [
        (n, each.pairs, each.told or "not measured", each.same) for n, each in enumerate(result.rounds, start=1)
    ]
    header = ("round", "pairs so far", "demonstration told", "samples word for word the same")
    chart = ForestChart("Held-out pairs in which the demonstration is told", Axis("told", "%", low=0.0, high=1.0), bars)
    return [
        *([chart] if bars else []),
        Table("Rounds", header, rows),
        Paragraph(
            "A policy that does as was demonstrated cannot be told from it, which is one half. Pairs of all rounds so "
            "far count, so the share falls slowly. The reward is known up to a shift a prompt, and up to its scale."
        ),
    ]


def _policies(result: IrlResult) -> list[Part]:
    looks = {f"round {n}": each.policy.looks for n, each in enumerate(result.rounds, start=1) if each.policy.looks}
    pictures = over_optimisation(dict(list(looks.items())[-3:]))  # more lines could not be told apart
    rows: list[Sequence[Cell]] = [
        (n, each.policy.steps, round(each.policy.losses[-1], 4), each.policy.looks[-1].kl if each.policy.looks else "")
        for n, each in enumerate(result.rounds, start=1)
    ]
    return [*pictures, Table("Policy steps", ("round", "steps", "last loss", "KL to the reference, nats"), rows)]
