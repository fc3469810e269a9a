"""Explanations as pages: the words, the layers, what was shown to be a cause, and what the explanation is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from safetylayers.explain.attention import DIAGNOSTIC, LastRowAttention
from safetylayers.explain.cause_pages import cause_sections, drawn, left_out, signed, strongest_columns
from safetylayers.explain.causes import Causes
from safetylayers.explain.comparison import Comparison, parted
from safetylayers.explain.explanation import Explanation, Scored
from safetylayers.records import Difference
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
from safetylayers.report.line_chart import LAYER_AXIS

UNIT = "nats"
TOWARDS, AWAY = "pushes towards refusal", "pushes towards an answer"
SIDE = "0 normal, 1 malicious"
LONG = 300
"""Tokens. The page of a longer prompt shows its words by one method alone."""
ROOM = 12_400
"""Cells of all heat maps and, at two cells a word, all words: what keeps a page under `report.MAX_BYTES`."""
_ATTENTION = "What attention reads (no cause)"
FEWEST_HEADS, HEADS = 8, 64
"""Rows of the map of heads."""
_SCALE = (
    "At each layer, 0 is where the built-in normal prompts lie on average and 1 where the malicious ones do. Harm is "
    "read at the last token that the user wrote, refusal at the last one before the reply."
)
_LENS = "Early layers do not write in the head's terms: what the lens reads there is no decision."
_REST = Paragraph("The prompt is long: its tokens, and other methods' scores, are in the records alone.")
_ESTIMATE = "Estimated by gradients: compare the words with one another, not with the log-odds."
_NOTES = {
    "held-gradient": _ESTIMATE,
    "gradient": _ESTIMATE,
    "integrated": "Estimated by gradients from mean embeddings to the words'; the scores add up to what that moves.",
    "occlusion": "Measured: by how much the log-odds fall when the word is left out.",
    "random": "Drawn at random, as a control: it explains nothing.",
}


def explanation_page(
    found: Explanation,
    attention: LastRowAttention | None = None,
    causes: Causes | None = None,
    *,
    missing: Mapping[str, str] | None = None,
) -> Page:
    """Return one explanation's page.

    Args:
        found: the explanation.
        attention: of the same prompt.
        causes: of the same prompt's refusal.
        missing: what else was asked for, and why it could not be done.
    """
    seen = [attention] if attention else []
    room = _room([found], causes, seen)
    return Page(
        title=f"Why {found.provenance.model} {'refuses' if found.verdict.refused else 'answers'}",
        lead=found.sentence,
        summary=[_key_figures(found), *_missing(missing)],
        sections=[
            Section("Which words", _words(found)),
            Section("Where inside", _inside(found)),
            *(cause_sections(causes, band_of(found), room=room) if causes else []),
            Section("Can the scores be trusted?", _trust(found)),
            *(Section(_ATTENTION, _attention(found, each, room)) for each in seen),
        ],
        provenance=_provenance(found),
    )


def comparison_page(
    found: Comparison,
    causes: Causes | None = None,
    attention: Sequence[LastRowAttention] = (),
    *,
    missing: Mapping[str, str] | None = None,
) -> Page:
    """Return the page of two explanations side by side.

    Args:
        found: the two.
        causes: of the first one's refusal, or of the difference between the two prompts.
        attention: of the first and of the second.
        missing: what else was asked for, and why it could not be done.
    """
    names, both = _names(found), (found.first, found.second)
    models = found.kind == "models"
    of = " and ".join(dict.fromkeys(each.provenance.model for each in both))
    named = list(zip(both, names, strict=True))
    room = _room(both, causes, attention)
    return Page(
        title=f"{of}: {'two models, one prompt' if models else 'two prompts side by side'}",
        lead=found.sentence,
        summary=[_moved(found), *_missing(missing)],
        sections=[
            Section("Which words", _both_words(found, names)),
            Section("Where inside", _both_inside(found, names)),
            *(cause_sections(causes, band_of(found.first), names[0] if models else "", room=room) if causes else []),
            Section("Can the scores be trusted?", [part for one, it in named for part in _trust(one, f": {it}")]),
            *([Section(_ATTENTION, _both_attention(found, attention, names, room))] if attention else []),
        ],
        provenance=_both_provenance(found, names),
    )


def band_of(found: Explanation) -> Band | None:
    """Return the safety layers as a chart shows them."""
    return Band(*found.safety_layers, "safety layers") if found.safety_layers else None


def _room(found: Sequence[Explanation], causes: Causes | None, attention: Sequence[LastRowAttention]) -> int:
    """Return how many cells a heat map may have, so that the whole page stays one to send."""
    words = sum(len(each.tokens) * (1 if len(each.tokens) > LONG else len(each.scores) + 1) for each in found)
    maps = bool(causes) + 1.5 * len(attention)
    return int((ROOM - 2 * words) / max(1, maps))


def _missing(missing: Mapping[str, str] | None) -> list[Part]:
    return [Callout(f"Not on this page: {what}", why, "warning") for what, why in (missing or {}).items()]


def _names(found: Comparison) -> tuple[str, str]:
    if found.kind == "prompts":
        return "first prompt", "second prompt"
    names = found.first.provenance.model, found.second.provenance.model
    return names if names[0] != names[1] else (f"{names[0]}, first", f"{names[1]}, second")


def _key_figures(found: Explanation) -> KeyFigures:
    verdict = found.verdict
    figures = [KeyFigure("refusal log-odds", signed(verdict.refusal_log_odds), note="above 0 it refuses")]
    if verdict.refusal_settled is not None:
        note = f"of layers 0 to {found.n_layers - 1}"
        if found.safety_layers:
            note += "; safety layers {} to {}".format(*found.safety_layers)
        figures.append(KeyFigure("refusal can be read from layer", str(verdict.refusal_settled), note=note))
    if found.scores and (known := found.scores[0].faithfulness):
        figures.append(KeyFigure("the words' scores beat", f"{100 * known.beaten:.0f} %", note="of random orders"))
    return KeyFigures(figures)


def _moved(found: Comparison) -> KeyFigures:
    one, two = found.first.verdict, found.second.verdict
    layers = {"harm": parted(one.harm, two.harm), "refusal": parted(one.refusal, two.refusal)}
    odds = [signed(verdict.refusal_log_odds) for verdict in (one, two)]
    return KeyFigures(
        [
            KeyFigure("refusal log-odds", odds[1], before=odds[0], note="above 0 it refuses"),
            *(
                KeyFigure(
                    f"along the {name} direction",
                    "end together" if layer is None else f"part at layer {layer}",
                    note=f"of layers 0 to {found.first.n_layers - 1}",
                )
                for name, layer in layers.items()
            ),
        ]
    )


def _shaded(found: Explanation, scored: Scored, caption: str, note: str = "") -> ShadedText:
    words = [ShadedWord(word.text, score) for word, score in zip(found.words, scored.saliency.words, strict=True)]
    return ShadedText(caption, words, TOWARDS, AWAY, UNIT, note)


def _words(found: Explanation) -> list[Part]:
    if not found.scores:
        return [Paragraph("No scores were asked for.")]
    first, *others = [
        _shaded(found, each, f"Words by `{each.saliency.method}`", _NOTES[each.saliency.method])
        for each in found.scores
    ]
    parts: list[Part] = [
        Paragraph(
            "A score says how far a word moves the refusal log-odds; one nat more makes the odds of a refusal 2.7 "
            "times as high."
        ),
        first,
    ]
    if len(found.tokens) > LONG:
        return [*parts, _REST]
    return [
        *parts,
        Fold("Token by token, with what the chat template adds", [_tokens(found, found.scores[0])]),
        *(Fold(each.caption, [replace(each, caption="Words")]) for each in others),
    ]


def _tokens(found: Explanation, scored: Scored) -> ShadedText:
    own = range(found.words[0].first, found.words[-1].last + 1)
    tokens = enumerate(zip(found.tokens, scored.saliency.tokens, strict=True))
    pieces = [ShadedWord(text, score if place in own else None) for place, (text, score) in tokens]
    note = "What the template adds has no score."
    return ShadedText("Tokens of the rendered prompt", pieces, TOWARDS, AWAY, UNIT, note, joined=True)


def _both_words(found: Comparison, names: tuple[str, str]) -> list[Part]:
    one, two = found.first, found.second
    texts = {
        its.saliency.method: Columns([_shaded(one, its, names[0]), _shaded(two, other, names[1])])
        for its in one.scores
        for other in two.scores
        if other.saliency.method == its.saliency.method
    }
    if not texts:
        return [Paragraph("No scores of both were asked for by the same method.")]
    (method, first), *others = texts.items()
    long = max(len(one.tokens), len(two.tokens)) > LONG
    return [
        Paragraph(
            f"Words by `{method}`. {_NOTES[method]} Each text has colours of its own: its strongest word has the "
            "strongest one."
        ),
        first,
        *(Fold(f"Words by `{name}`", [Paragraph(_NOTES[name]), text]) for name, text in others if not long),
        *([_REST] if long else []),
    ]


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


def _both_inside(found: Comparison, names: tuple[str, str]) -> list[Part]:
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


def _trust(found: Explanation, name: str = "") -> list[Part]:
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


def _both_attention(
    found: Comparison, attention: Sequence[LastRowAttention], names: tuple[str, str], room: int
) -> list[Part]:
    first, second = (
        _attention(each, it, room, f": {name}")
        for each, it, name in zip((found.first, found.second), attention, names, strict=True)
    )
    return [*first, *second[1:]]


def _attention(found: Explanation, attention: LastRowAttention, room: int, name: str = "") -> list[Part]:
    layers = sorted(attention.word_weights)
    means = [
        [sum(column) / len(column) for column in zip(*attention.word_weights[layer], strict=True)] for layer in layers
    ]
    caption = f"What the prompt's last token attends to{name}"
    mean = _attended(
        found, f"{caption} (mean over heads)", LAYER_AXIS, dict(zip(map(str, layers), means, strict=True)), room
    )
    return [
        Callout("Attention is no cause", DIAGNOSTIC),
        replace(mean, band=band_of(found)) if layers == list(range(found.n_layers)) else mean,
        Fold(f"Head by head{name}", [_heads(found, attention, caption, room // 2)]),
    ]


def _heads(found: Explanation, attention: LastRowAttention, caption: str, room: int) -> HeatMap:
    heads = {
        f"{layer}.{head}": weights
        for layer in sorted(attention.word_weights)
        for head, weights in enumerate(attention.word_weights[layer])
    }
    columns = len(found.words)
    count = max(FEWEST_HEADS, min(HEADS, room // (columns * drawn(columns))))
    sharpest = set(sorted(heads, key=lambda name: -max(heads[name]))[:count])
    shown = {name: weights for name, weights in heads.items() if name in sharpest}
    some = f"the {count} of {len(heads)} heads that attend most to one word; " if count < len(heads) else ""
    return _attended(found, f"{caption} ({some}`2.5` is head 5 of layer 2)", Axis("Head"), shown, room)


def _attended(found: Explanation, caption: str, y: Axis, rows: Mapping[str, Sequence[float]], room: int) -> HeatMap:
    shown = strongest_columns(list(rows.values()), room)
    return HeatMap(
        caption,
        Axis("attention", "%"),
        list(rows),
        [found.words[place].text for place in shown],
        [[row[place] for place in shown] for row in rows.values()],
        y=y,
        diverging=False,
        note=f"The rest goes to the chat template's tokens.{left_out(shown, len(found.words))}",
    )


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


def _both_provenance(found: Comparison, names: tuple[str, str]) -> dict[str, str]:
    """Return the first one's, and what is another of the second."""
    first, second = _provenance(found.first), _provenance(found.second)
    return {**first, **{f"{names[1]}: {name}": value for name, value in second.items() if value != first[name]}}
