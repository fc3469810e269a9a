"""How far an explanation can be trusted."""

from __future__ import annotations

from safetylayers.explain.explanation import Explanation
from safetylayers.explain.pages.parts import UNIT, signed
from safetylayers.records import Difference
from safetylayers.report import Axis, Callout, Columns, Curve, CurveChart, Paragraph, Part, Table


def trust(found: Explanation, name: str = "") -> list[Part]:
    """Return what the words' scores are worth; `name` says of which of two explanations."""
    known = found.scores[0].faithfulness if found.scores else None
    if known is None:
        return [Paragraph(f"It was not measured how far the scores can be trusted{name}.")]
    method = found.scores[0].saliency.method
    beaten = f"{100 * known.beaten:.0f} % of random orders"
    verdict = (
        Callout(f"Better than chance{name}", f"The order of the words by `{method}` beats {beaten}.", "good")
        if known.can_be_trusted
        else Callout(
            f"Do not rely on it{name}",
            f"The order of the words by `{method}` beats only {beaten}.",
            "warning",
        )
    )
    charts = [
        CurveChart(
            caption=caption,
            x=Axis(f"words {where}", "%"),
            y=Axis(f"moved towards {'refusal' if known.range >= 0 else 'an answer'}", UNIT),
            curves=[Curve(method, known.shares, own), Curve("random orders", known.shares, drawn)],
            zero_line=True,
        )
        for caption, where, own, drawn in (
            ("Strongest words taken out: lower is better", "out", known.deletion, known.random_deletion),
            ("Strongest words put back: higher is better", "back", known.insertion, known.random_insertion),
        )
    ]
    return [
        verdict,
        Paragraph(
            "Words are taken out, or put back into the empty prompt, strongest first, and the model is asked again. "
            f"0 is the empty prompt; all words together move the log-odds by {signed(known.range)}."
        ),
        Columns(charts),
        _methods(found),
    ]


def _methods(found: Explanation) -> Table:
    rows = [
        (
            each.saliency.method,
            Difference(mean=known.gain, low=known.gain_interval.low, high=known.gain_interval.high),
            f"{100 * known.beaten:.0f} %",
            signed(known.comprehensiveness, 2),
            signed(known.sufficiency, 2),
            None if each.agreement is None else signed(each.agreement, 2),
            None if (gap := each.saliency.completeness_gap) is None else f"{100 * gap:.1f} %",
            f"{each.seconds:.2f}",
        )
        for each in found.scores
        if (known := each.faithfulness)
    ]
    header = (
        "method", "gain over random", "orders beaten", "comprehensiveness", "sufficiency",
        "like occlusion", "completeness gap", "seconds",
    )  # fmt: skip
    note = (
        "Gain: how much better than random orders the two curves are, in nats. Comprehensiveness: how far the "
        "value falls without the strongest words; more is better. Sufficiency: how far with these alone; less is "
        "better. Like occlusion: rank correlation with its scores. Completeness gap: what integrated gradients miss."
    )
    return Table("What each method's scores are worth", header, rows, note=note)
