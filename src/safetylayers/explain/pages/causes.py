"""The part of an explanation's page that shows causes."""

from __future__ import annotations

from collections.abc import Sequence

from safetylayers.explain.causes import Causes
from safetylayers.explain.pages.parts import left_out, signed, strongest_columns
from safetylayers.explain.patching import LayerPatching
from safetylayers.explain.steering import DoseResponse
from safetylayers.report import (
    Axis,
    Band,
    Callout,
    Curve,
    CurveChart,
    Facts,
    Fold,
    HeatMap,
    Line,
    LineChart,
    Paragraph,
    Part,
    Section,
    Table,
)
from safetylayers.report.heat_map import MAX_CELLS

EFFECT = Axis("share of the difference", low=-1.0, high=1.0)
SHOWN = 8
"""Heads in the table."""
_SHAPES = {"rising": "never fall", "falling": "never rise", "flat": "stay the same", "neither": "both rise and fall"}


def cause_sections(causes: Causes, band: Band | None, of: str = "", *, room: int = MAX_CELLS) -> list[Section]:
    """Return what patching, taking heads out and steering show.

    Args:
        causes: that were found.
        band: the safety layers.
        of: the model's name, where the page has two.
        room: cells that the map of places may have.
    """
    where = f" ({of})" if of else ""
    return [
        Section(f"What causes it: swapped activations{where}", _patching(causes, band, room)),
        Section(f"What causes it: heads and direction{where}", _inside(causes)),
    ]


def _patching(causes: Causes, band: Band | None, room: int) -> list[Part]:
    places = causes.places
    warning = (
        " The answered prompt was made by filling words in. It is hardly a sentence, and may be answered for that."
        if causes.counterpart_made
        else ""
    )
    return [
        Facts(
            {
                f"refused, log-odds {signed(places.clean_value)}": places.clean,
                f"answered, log-odds {signed(places.counterpart_value)}": places.counterpart,
            }
        ),
        Paragraph(
            "What the model holds inside while it reads the refused prompt is put into its run on the answered one, "
            "which can bring the refusal back, and the other way round, which can take it away. An effect of 1 is the "
            f"whole difference between the two.{warning}"
        ),
        LineChart(
            caption="Each layer's output at the last token, where the reply is chosen",
            y=Axis(EFFECT.label),
            lines=[
                Line("brings the refusal back", causes.denoising.at_last),
                Line("takes the refusal away", causes.noising.at_last),
            ],
            band=band,
            zero_line=True,
            note="The last layer's effect is 1 as a matter of course: the reply is read from its output there.",
        ),
        *_band_callout(causes),
        _map(causes, band, room),
        Fold("What each layer writes", [_written(causes.denoising, causes.noising)]),
        Fold("Attention and MLPs: the strongest places", [_shortlist(causes)]),
    ]


def _map(causes: Causes, band: Band | None, room: int) -> HeatMap:
    places, effects = causes.places, causes.places.effects["residual"]
    shown = strongest_columns(effects, room)
    tokens = [_label(place.clean_token, place.counterpart_token) for place in places.places]
    return HeatMap(
        "Where the refusal comes from: what each layer's output brings back, token by token",
        EFFECT,
        [str(layer) for layer in places.layers],
        [tokens[place] for place in shown],
        [[row[place] for place in shown] for row in effects],
        x=Axis("Token"),
        band=band,
        note=f"Refused/answered where the two prompts differ.{left_out(shown, len(tokens))}",
    )


def _band_callout(causes: Causes) -> list[Part]:
    """Say how much of the difference the safety layers make by themselves."""
    if not causes.denoising.blocks:
        return []
    back, away = causes.denoising.blocks[0], causes.noising.blocks[0]
    return [
        Callout(
            f"The safety layers {back.first} to {back.last}",
            f"What they write at the last token brings back {_percent(back.at_last)} of the refusal, or takes away "
            f"{_percent(away.at_last)}. Written at all tokens it is {_percent(back.everywhere)} and "
            f"{_percent(away.everywhere)}, much of it as a matter of course: the first layers also write down which "
            "words they read.",
        )
    ]


def _label(clean: str, counterpart: str) -> str:
    return clean if clean == counterpart else f"{clean}/{counterpart.strip()}"


def _written(denoising: LayerPatching, noising: LayerPatching) -> Table:
    rows = [
        (
            back.first,
            signed(back.at_last, 2),
            signed(away.at_last, 2),
            signed(back.everywhere, 2),
            signed(away.everywhere, 2),
        )
        for back, away in zip(denoising.written, noising.written, strict=True)
    ]
    header = ("layer", "brings back, last token", "takes away, last token", "brings back, all", "takes away, all")
    return Table("Effect of what each layer's attention and MLP write", header, rows)


def _shortlist(causes: Causes) -> Table:
    places = causes.shortlist.places
    rows = [
        (
            each.layer,
            each.component,
            _label(places[each.place].clean_token, places[each.place].counterpart_token),
            signed(each.estimate, 2),
            signed(each.effect, 2),
        )
        for each in causes.shortlist.shortlist
    ]
    note = "The estimate, by gradients, chooses the places and is no cause; the effect was measured by patching."
    return Table(
        "By gradients first, then by patching", ("layer", "part", "token", "estimate", "effect"), rows, note=note
    )


def _inside(causes: Causes) -> list[Part]:
    heads = [(f"layer {head.layer}, head {head.head}", signed(head.effect, 2)) for head in causes.heads[:SHOWN]]
    gone = causes.ablation
    return [
        Table(
            "Heads taken out one by one",
            ("head", "change of the refusal log-odds"),
            heads,
            note="Of the refused prompt, the strongest first. Where the log-odds fall, the head raises the refusal.",
        ),
        *(_dose(each, name) for each, name in zip(causes.doses, ("refused", "answered"), strict=True)),
        Callout(
            "The direction taken out of all layers",
            f"That brings the refused prompt's log-odds from {signed(gone.value)} to {signed(gone.ablated)}; a random "
            f"direction, to {signed(_mean(gone.controls))} ± {gone.control_spread:.1f} (one standard deviation).",
        ),
    ]


def _dose(found: DoseResponse, name: str) -> CurveChart:
    return CurveChart(
        caption=f"The {found.direction} added to the output of layer {found.layer}: the {name} prompt",
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
        note=f"With more of it the log-odds {_SHAPES[found.shape]}: rank correlation {signed(found.spearman, 2)}. "
        "Below 0 it is taken away. Random directions of the same length are the control.",
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
