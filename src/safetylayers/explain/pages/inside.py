"""Where inside a model a decision can be read."""

from __future__ import annotations

from safetylayers.explain.comparison import Comparison
from safetylayers.explain.explanation import Explanation
from safetylayers.explain.pages.parts import UNIT, band_of, signed
from safetylayers.report import Axis, Fold, Line, LineChart, Part, Table

SIDE = "0 normal, 1 malicious"
_SCALE = (
    "At each layer, 0 is where the built-in normal prompts lie on average and 1 where the malicious ones do. Harm is "
    "read at the last token that the user wrote, refusal at the last one before the reply."
)
_LENS = "Early layers do not write in the head's terms: what the lens reads there is no decision."


def inside(found: Explanation) -> list[Part]:
    """Return the curves over the layers, what each would say next, and the probes."""
    verdict, band = found.verdict, band_of(found)
    return [
        LineChart(
            caption="How far the prompt lies with malicious ones, layer by layer",
            y=Axis(f"position ({SIDE})"),
            lines=[
                Line("harm, at the instruction's end", verdict.harm),
                Line("refusal, at the prompt's end", verdict.refusal),
            ],
            band=band,
            zero_line=True,
            note=_SCALE,
        ),
        LineChart(
            caption="Logit lens: refusal log-odds if each layer were the last one",
            y=Axis("refusal log-odds", UNIT),
            lines=[Line("refusal against all else", verdict.lens.refusal_log_odds)],
            band=band,
            zero_line=True,
            note=_LENS,
        ),
        Fold("What each layer would say next", [_lens_table(found, "Likeliest next tokens")]),
        *([Fold("What the map's probes say", [_probes(found, "Probes")])] if verdict.probes else []),
    ]


def both_inside(found: Comparison, names: tuple[str, str]) -> list[Part]:
    """Return the curves of two explanations, each chart with both."""
    one, two, band = found.first.verdict, found.second.verdict, band_of(found.first)
    both = list(zip((found.first, found.second), names, strict=True))
    charts = (
        ("Harm, at the instruction's end", f"position ({SIDE})", one.harm, two.harm, ""),
        ("Refusal, at the prompt's end", f"position ({SIDE})", one.refusal, two.refusal, _SCALE),
        (
            "Logit lens: refusal log-odds if each layer were the last one",
            f"refusal log-odds ({UNIT})",
            one.lens.refusal_log_odds,
            two.lens.refusal_log_odds,
            _LENS,
        ),
    )
    probes = Fold("What the map's probes say", [_probes(each, name) for each, name in both])
    return [
        *(
            LineChart(
                caption=caption,
                y=Axis(axis),
                lines=[Line(names[0], before), Line(names[1], after)],
                band=band,
                zero_line=True,
                note=note,
            )
            for caption, axis, before, after, note in charts
        ),
        Fold("What each layer would say next", [_lens_table(each, name) for each, name in both]),
        *([probes] if one.probes else []),
    ]


def _lens_table(found: Explanation, caption: str) -> Table:
    rows = [
        (layer, ", ".join(f"{each.text!r} {100 * each.probability:.1f} %" for each in tokens))
        for layer, tokens in enumerate(found.verdict.lens.top)
    ]
    return Table(caption, ("layer", "likeliest next tokens"), rows)


def _probes(found: Explanation, caption: str) -> Table:
    verdict = found.verdict
    rows = [
        (layer, signed(score, 2), signed(threshold, 2))
        for layer, (score, threshold) in enumerate(zip(verdict.probes, verdict.thresholds, strict=True))
    ]
    return Table(caption, ("layer", "log-odds of malicious", "threshold at 1 % false positives"), rows)
