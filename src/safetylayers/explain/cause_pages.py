"""The part of an explanation's page that shows causes."""

from __future__ import annotations

from safetylayers.explain.causes import Causes
from safetylayers.explain.patching import LayerPatching
from safetylayers.explain.steering import DoseResponse
from safetylayers.report import (
    Axis,
    Band,
    Callout,
    Curve,
    CurveChart,
    Fold,
    HeatMap,
    Line,
    LineChart,
    Paragraph,
    Part,
    Section,
    Table,
)

EFFECT = Axis("effect", low=-1.0, high=1.0)
SHOWN = 8
"""Heads in the table."""


def cause_sections(causes: Causes, band: Band | None) -> list[Section]:
    """Return what patching, taking heads out and steering show."""
    return [
        Section("What causes it: activations put from one prompt into the other", _patching(causes, band)),
        Section("What causes it: heads and the refusal direction", _inside(causes)),
    ]


def _patching(causes: Causes, band: Band | None) -> list[Part]:
    places = causes.places
    made = (
        " It was made by filling words in, so it may be refused less for being no sentence."
        if causes.counterpart_made
        else ""
    )
    return [
        Paragraph(
            f"Refused: `{places.clean}` (log-odds {places.clean_value:+.1f}). Answered: `{places.counterpart}` "
            f"({places.counterpart_value:+.1f}).{made} An effect of 1 is the whole difference between the two."
        ),
        LineChart(
            caption="Effect of each layer, at the prompt's last place",
            y=Axis("share of the difference"),
            lines=[
                Line("brings the refusal back", causes.denoising.at_last),
                Line("takes the refusal away", causes.noising.at_last),
            ],
            band=band,
            zero_line=True,
        ),
        *_band_callout(causes),
        HeatMap(
            "Where the refusal comes from: each layer's output at each place brings back",
            EFFECT,
            [str(layer) for layer in places.layers],
            [_label(place.clean_token, place.counterpart_token) for place in places.places],
            places.effects["residual"],
            x=Axis("Token"),
            band=band,
        ),
        Fold("What each layer writes", [_written(causes.denoising, causes.noising)]),
        Fold("Shortlist by gradients, confirmed by patching", [_shortlist(causes)]),
    ]


def _band_callout(causes: Causes) -> list[Part]:
    """Say how much of the difference the safety layers make by themselves."""
    if not causes.denoising.blocks:
        return []
    back, away = causes.denoising.blocks[0], causes.noising.blocks[0]
    return [
        Callout(
            f"The safety layers {back.first} to {back.last}",
            f"What they write everywhere brings back {100 * back.everywhere:.0f} % of the refusal and, exchanged, "
            f"takes away {100 * away.everywhere:.0f} %; at the last place alone {100 * back.at_last:.0f} and "
            f"{100 * away.at_last:.0f} %. The first layers also write down which words they read, so that much of "
            "what they do everywhere is a matter of course.",
        )
    ]


def _label(clean: str, counterpart: str) -> str:
    return clean if clean == counterpart else f"{clean}/{counterpart.strip()}"


def _written(denoising: LayerPatching, noising: LayerPatching) -> Table:
    rows = [
        (
            back.first,
            round(back.everywhere, 2),
            round(back.at_last, 2),
            round(away.everywhere, 2),
            round(away.at_last, 2),
        )
        for back, away in zip(denoising.written, noising.written, strict=True)
    ]
    header = ("layer", "brings back, everywhere", "at the last place", "takes away, everywhere", "at the last place")
    return Table("Effect of what each layer's attention and MLP write", header, rows)


def _shortlist(causes: Causes) -> Table:
    places = causes.shortlist.places
    rows = [
        (each.layer, each.component, places[each.place].clean_token, round(each.estimate, 2), round(each.effect, 2))
        for each in causes.shortlist.shortlist
    ]
    note = "The estimate is a shortlist and no cause; the effect was measured by patching."
    return Table("Strongest places", ("layer", "component", "token", "estimate", "effect"), rows, note=note)


def _inside(causes: Causes) -> list[Part]:
    heads = [(f"layer {head.layer}, head {head.head}", round(head.effect, 2)) for head in causes.heads[:SHOWN]]
    gone = causes.ablation
    return [
        Table(
            "Heads taken out one by one",
            ("head", "change of the refusal log-odds"),
            heads,
            note="Below 0, the head raises the refusal.",
        ),
        *(_dose(each, name) for each, name in zip(causes.doses, ("refused", "answered"), strict=True)),
        Paragraph(
            f"Taken out of all layers, the direction brings the refused prompt from {gone.value:+.1f} to "
            f"{gone.ablated:+.1f}; random directions leave it at {_mean(gone.controls):+.1f} "
            f"± {gone.control_spread:.1f} (standard deviation)."
        ),
    ]


def _dose(found: DoseResponse, name: str) -> CurveChart:
    shape = {"rising": "never falls", "falling": "never rises", "flat": "stays", "neither": "rises and falls"}
    return CurveChart(
        caption=f"The {found.direction} added to layer {found.layer}, {name} prompt: {shape[found.shape]}",
        x=Axis("strength, in standard deviations of prompts"),
        y=Axis("refusal log-odds"),
        curves=[
            Curve(found.direction, found.strengths, found.values),
            Curve(
                "random directions",
                found.strengths,
                [_mean(column) for column in zip(*found.controls, strict=True)],
                found.control_spread,
            ),
        ],
        zero_line=True,
        deviation_label="± one standard deviation of random directions",
        note=f"Rank correlation of strength and log-odds {found.spearman:+.2f}.",
    )


def _mean(values: tuple[float, ...]) -> float:
    return sum(values) / len(values)
