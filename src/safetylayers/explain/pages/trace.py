"""A reply's trace as a part of an explanation's page."""

from __future__ import annotations

from safetylayers.explain.trace import ReplyTrace
from safetylayers.report import Axis, Curve, CurveChart, Fold, Paragraph, Section, Table


def trace_section(found: ReplyTrace, name: str = "") -> Section:
    """Return what the model is at after each token of its reply; `name` says of which of two explanations."""
    places = list(range(1, len(found.tokens) + 1))
    layers = f"{found.layers[0]} to {found.layers[-1]}" if len(found.layers) > 1 else str(found.layers[0])
    chart = CurveChart(
        caption=f"Along the refusal direction, mean over layers {layers}",
        x=Axis("token of the reply"),
        y=Axis("position (0 normal, 1 malicious)"),
        curves=[Curve("refusal", places, [token.refusal for token in found.tokens])],
        zero_line=True,
        note="The scale is that of prompts' last tokens; in a reply it tells movement, not place.",
    )
    rows = [
        (place, token.text, round(token.logprob, 2), round(token.refusal, 2), _probe(token.probe))
        for place, token in zip(places, found.tokens, strict=True)
    ]
    table = Table("Token by token", ("token", "text", "log-probability", "refusal", "probes, log-odds"), rows)
    return Section(
        f"While it replies{name}", [Paragraph(f"The reply: {found.reply}"), chart, Fold("The numbers", [table])]
    )


def _probe(score: float | None) -> float | None:
    return None if score is None else round(score, 2)
