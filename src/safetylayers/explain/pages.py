"""Explanations as pages: the words, the layers, what the explanation is worth, and what was shown to be a cause."""

from __future__ import annotations

from safetylayers.explain.attention import DIAGNOSTIC, LastRowAttention
from safetylayers.explain.cause_pages import cause_sections
from safetylayers.explain.causes import Causes
from safetylayers.explain.comparison import Comparison
from safetylayers.explain.explanation import Explanation, Scored
from safetylayers.report import (
    Axis,
    Band,
    Callout,
    Columns,
    Curve,
    CurveChart,
    Fold,
    HeatMap,
    KeyFigure,
    KeyFigures,
    Line,
    LineChart,
    Page,
    Paragraph,
    Part,
    Section,
    ShadedText,
    ShadedWord,
    Table,
)

UNIT = "nats"
TOWARDS, AWAY = "pushes towards refusal", "pushes towards an answer"
SIDE = "0 normal, 1 malicious"


def explanation_page(
    found: Explanation, attention: LastRowAttention | None = None, causes: Causes | None = None
) -> Page:
    """Return one explanation's page."""
    sections = [
        Section("Which words", _words(found)),
        Section("Where inside", _inside(found)),
        Section("Can this be trusted?", _trust(found)),
    ]
    if causes:
        sections += cause_sections(causes, band_of(found))
    if attention:
        sections.append(Section("What attention reads (no cause)", _attention(found, attention)))
    return Page(
        title=f"Why {found.provenance.model} {'refuses' if found.verdict.refused else 'answers'}",
        lead=found.sentence,
        summary=[_key_figures(found)],
        sections=sections,
        provenance=_provenance(found),
    )


def comparison_page(found: Comparison, causes: Causes | None = None) -> Page:
    """Return the page of two explanations side by side."""
    both = (found.first, found.second)
    names = _names(found)
    texts = [_shaded(each, each.scores[0], name) for each, name in zip(both, names, strict=True) if each.scores]
    sections = [
        Section("Which words", [Columns(texts)] if texts else [Paragraph("No scores were asked for.")]),
        Section("Where inside", _both_inside(found, names)),
    ]
    if causes:
        sections += cause_sections(causes, band_of(found.first))
    sections += [Section(f"{name}: can this be trusted?", _trust(each)) for each, name in zip(both, names, strict=True)]
    title = "Two prompts" if found.kind == "prompts" else "Two models"
    return Page(
        title=f"{title} side by side: {found.first.provenance.model}",
        lead=found.sentence,
        sections=sections,
        provenance=_provenance(found.first),
    )


def band_of(found: Explanation) -> Band | None:
    """Return the safety layers as a chart shows them."""
    return Band(*found.safety_layers, "safety layers") if found.safety_layers else None


def _names(found: Comparison) -> tuple[str, str]:
    if found.kind == "prompts":
        return "first prompt", "second prompt"
    names = found.first.provenance.model, found.second.provenance.model
    return names if names[0] != names[1] else (f"{names[0]}, first", f"{names[1]}, second")


def _key_figures(found: Explanation) -> KeyFigures:
    verdict = found.verdict
    figures = [KeyFigure("refusal log-odds", f"{verdict.refusal_log_odds:+.1f}", note="above 0 it refuses")]
    if verdict.refusal_settled is not None:
        figures.append(
            KeyFigure("read as settled from layer", str(verdict.refusal_settled), note=f"of {found.n_layers} layers")
        )
    if found.safety_layers:
        first, last = found.safety_layers
        figures.append(KeyFigure("safety layers", f"{first}\N{EN DASH}{last}", note="of the map"))
    if found.scores and (known := found.scores[0].faithfulness):
        figures.append(KeyFigure("better than random orders", f"{100 * known.beaten:.0f} %", note="of the words"))
    return KeyFigures(figures)


def _shaded(found: Explanation, scored: Scored, caption: str) -> ShadedText:
    words = zip(found.words, scored.saliency.words, strict=True)
    return ShadedText(caption, [ShadedWord(word.text, score) for word, score in words], TOWARDS, AWAY, UNIT)


def _words(found: Explanation) -> list[Part]:
    if not found.scores:
        return [Paragraph("No scores were asked for.")]
    first = found.scores[0]
    tokens = zip(found.tokens, first.saliency.tokens, strict=True)
    own = range(found.words[0].first, found.words[-1].last + 1)
    pieces = [ShadedWord(text, score if place in own else None) for place, (text, score) in enumerate(tokens)]
    parts: list[Part] = [
        _shaded(found, first, f"Words by what they do to the refusal log-odds ({first.saliency.method})"),
        Fold(
            "Token by token, with what the chat template adds",
            [ShadedText("Tokens of the rendered prompt", pieces, TOWARDS, AWAY, UNIT, joined=True)],
        ),
    ]
    others = (each.saliency.method for each in found.scores[1:])
    parts += [
        Fold(f"The same by `{name}`", [_shaded(found, each, name)])
        for name, each in zip(others, found.scores[1:], strict=True)
    ]
    return parts


def _inside(found: Explanation) -> list[Part]:
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
        ),
        LineChart(
            caption="Logit lens: refusal log-odds if each layer were the last one",
            y=Axis("refusal log-odds", UNIT),
            lines=[Line("refusal against all else", verdict.lens.refusal_log_odds)],
            band=band,
            zero_line=True,
        ),
        Fold("What each layer would say next", [_lens_table(found)]),
        *_probes(found),
    ]


def _lens_table(found: Explanation) -> Table:
    rows = [
        (layer, ", ".join(f"{each.text!r} {100 * each.probability:.0f} %" for each in tokens))
        for layer, tokens in enumerate(found.verdict.lens.top)
    ]
    note = "Early layers do not write in the head's terms: what the lens reads there is no decision."
    return Table("Likeliest next tokens", ("layer", "tokens"), rows, note=note)


def _probes(found: Explanation) -> list[Part]:
    verdict = found.verdict
    if not verdict.probes:
        return []
    rows = [
        (layer, round(score, 2), round(threshold, 2))
        for layer, (score, threshold) in enumerate(zip(verdict.probes, verdict.thresholds, strict=True))
    ]
    table = Table("The map's probes", ("layer", "log-odds of malicious", "threshold at 1 % false positives"), rows)
    return [Fold("What the map's probes say", [table])]


def _trust(found: Explanation) -> list[Part]:
    known = found.scores[0].faithfulness if found.scores else None
    if known is None:
        return [Paragraph("It was not measured how far the scores can be trusted.")]
    method = found.scores[0].saliency.method
    if known.can_be_trusted:
        verdict = Callout(
            "Better than chance", f"This order of words beats {100 * known.beaten:.0f} % of random ones.", "good"
        )
    else:
        verdict = Callout(
            "Do not rely on it", f"This order of words beats only {100 * known.beaten:.0f} % of random ones.", "warning"
        )
    charts = [
        CurveChart(
            caption=caption,
            x=Axis("words", "%"),
            y=Axis("towards what it does", UNIT),
            curves=[Curve(method, known.shares, own), Curve("random orders", known.shares, drawn)],
            zero_line=True,
        )
        for caption, own, drawn in (
            ("Taking the strongest words out", known.deletion, known.random_deletion),
            ("Putting the strongest words in", known.insertion, known.random_insertion),
        )
    ]
    return [
        verdict,
        Columns(charts),
        _methods(found),
        Paragraph(
            "Words are taken out of the prompt or put back, strongest first, and the model is asked again. A faithful "
            f"order falls sooner and rises sooner than random ones. All words together move the log-odds by "
            f"{known.range:+.1f}."
        ),
    ]


def _methods(found: Explanation) -> Table:
    rows = []
    for each in found.scores:
        known, gap = each.faithfulness, each.saliency.completeness_gap
        assert known
        rows.append(
            (
                each.saliency.method,
                f"{known.gain:+.2f} [{known.gain_interval.low:+.2f}, {known.gain_interval.high:+.2f}]",
                f"{100 * known.beaten:.0f} %",
                round(known.comprehensiveness, 2),
                round(known.sufficiency, 2),
                None if each.agreement is None else round(each.agreement, 2),
                None if gap is None else f"{100 * gap:.1f} %",
                f"{each.seconds:.3f}",
            )
        )
    header = (
        "method", "gain over random orders", "orders beaten", "comprehensiveness", "sufficiency",
        "agreement with occlusion", "completeness gap", "seconds",
    )  # fmt: skip
    return Table("What each method's scores are worth", header, rows)


def _attention(found: Explanation, attention: LastRowAttention) -> list[Part]:
    words = [word.text for word in found.words]
    layers = sorted(attention.word_weights)
    means = [
        [sum(column) / len(column) for column in zip(*attention.word_weights[layer], strict=True)] for layer in layers
    ]
    parts: list[Part] = [
        Callout("Attention is no cause", DIAGNOSTIC),
        HeatMap(
            "What the prompt's last token attends to, mean over heads",
            Axis("attention", "%"),
            [str(layer) for layer in layers],
            words,
            means,
            diverging=False,
            band=band_of(found) if layers == list(range(found.n_layers)) else None,
        ),
    ]
    for layer in layers:
        heads = attention.word_weights[layer]
        parts.append(
            Fold(
                f"Heads of layer {layer}",
                [
                    HeatMap(
                        f"Layer {layer}",
                        Axis("attention", "%"),
                        [str(head) for head in range(len(heads))],
                        words,
                        heads,
                        y=Axis("Head"),
                        diverging=False,
                    )
                ],
            )
        )
    return parts


def _both_inside(found: Comparison, names: tuple[str, str]) -> list[Part]:
    one, two, band = found.first.verdict, found.second.verdict, band_of(found.first)
    charts = (
        ("Harm, at the instruction's end", f"position ({SIDE})", one.harm, two.harm),
        ("Refusal, at the prompt's end", f"position ({SIDE})", one.refusal, two.refusal),
        ("Logit lens: refusal log-odds", "log-odds", one.lens.refusal_log_odds, two.lens.refusal_log_odds),
    )
    return [
        LineChart(
            caption=caption,
            y=Axis(axis),
            lines=[Line(names[0], before), Line(names[1], after)],
            band=band,
            zero_line=True,
        )
        for caption, axis, before, after in charts
    ]


def _provenance(found: Explanation) -> dict[str, str]:
    source = found.provenance
    return {
        "model": source.model,
        "weights": source.model_hash[:16],
        **{f"data: {name}": digest[:16] for name, digest in source.data.items()},
        "template, seed": f"{found.template}, {source.seed}",
        "refusals begin with": ", ".join(found.openings),
        "versions": ", ".join(f"{name} {version}" for name, version in source.versions.items()),
    }
