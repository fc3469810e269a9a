"""Explanations as pages: the words, the layers, what was shown to be a cause, and what the explanation is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from safetylayers.explain.attention import LastRowAttention
from safetylayers.explain.causes import Causes
from safetylayers.explain.comparison import Comparison, parted
from safetylayers.explain.explanation import Explanation
from safetylayers.explain.pages.attention import attention_parts, both_attention
from safetylayers.explain.pages.causes import cause_sections
from safetylayers.explain.pages.inside import both_inside, inside
from safetylayers.explain.pages.parts import LONG, band_of, signed
from safetylayers.explain.pages.trace import trace_section
from safetylayers.explain.pages.trust import trust
from safetylayers.explain.pages.words import both_words, words
from safetylayers.explain.trace import ReplyTrace
from safetylayers.report import Callout, KeyFigure, KeyFigures, Page, Part, Section

ROOM = 12_400
"""Cells of all heat maps and, at two cells a word, all words: what keeps a page under `report.MAX_BYTES`."""
_ATTENTION = "What attention reads (no cause)"
FEWEST_HEADS, HEADS = 8, 64
"""Rows of the map of heads."""


def explanation_page(
    found: Explanation,
    attention: LastRowAttention | None = None,
    causes: Causes | None = None,
    trace: ReplyTrace | None = None,
    *,
    missing: Mapping[str, str] | None = None,
) -> Page:
    """Return one explanation's page.

    Args:
        found: the explanation.
        attention: of the same prompt.
        causes: of the same prompt's refusal.
        trace: of the reply to the same prompt.
        missing: what else was asked for, and why it could not be done.
    """
    seen = [attention] if attention else []
    room = _room([found], causes, seen)
    return Page(
        title=f"Why {found.provenance.model} {'refuses' if found.verdict.refused else 'answers'}",
        lead=found.sentence,
        summary=[_key_figures(found), *_missing(missing)],
        sections=[
            Section("Which words", words(found)),
            Section("Where inside", inside(found)),
            *(cause_sections(causes, band_of(found), room=room) if causes else []),
            Section("Can the scores be trusted?", trust(found)),
            *(Section(_ATTENTION, attention_parts(found, each, room)) for each in seen),
            *([trace_section(trace)] if trace else []),
        ],
        provenance=_provenance(found),
    )


def comparison_page(
    found: Comparison,
    causes: Causes | None = None,
    attention: Sequence[LastRowAttention] = (),
    traces: Sequence[ReplyTrace] = (),
    *,
    missing: Mapping[str, str] | None = None,
) -> Page:
    """Return the page of two explanations side by side.

    Args:
        found: the two.
        causes: of the first one's refusal, or of the difference between the two prompts.
        attention: of the first and of the second.
        traces: of the replies to the first and to the second.
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
            Section("Which words", both_words(found, names)),
            Section("Where inside", both_inside(found, names)),
            *(cause_sections(causes, band_of(found.first), names[0] if models else "", room=room) if causes else []),
            Section("Can the scores be trusted?", [part for one, it in named for part in trust(one, f": {it}")]),
            *([Section(_ATTENTION, both_attention(found, attention, names, room))] if attention else []),
            *(trace_section(each, f": {it}") for each, it in zip(traces, names, strict=False)),
        ],
        provenance=_both_provenance(found, names),
    )


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
