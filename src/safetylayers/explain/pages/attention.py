"""What attention heads read from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from safetylayers.explain.attention import DIAGNOSTIC, LastRowAttention
from safetylayers.explain.comparison import Comparison
from safetylayers.explain.explanation import Explanation
from safetylayers.explain.pages.parts import band_of, drawn, left_out, strongest_columns
from safetylayers.report import Axis, Callout, Fold, HeatMap, Part
from safetylayers.report.line_chart import LAYER_AXIS

FEWEST_HEADS, HEADS = 8, 64
"""Rows of the map of heads."""


def attention_parts(found: Explanation, attention: LastRowAttention, room: int, name: str = "") -> list[Part]:
    """Return what the last token attends to: a mean over heads, and the sharpest heads."""
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


def both_attention(
    found: Comparison, attention: Sequence[LastRowAttention], names: tuple[str, str], room: int
) -> list[Part]:
    """Return the same of two explanations, one after the other."""
    first, second = (
        attention_parts(each, it, room, f": {name}")
        for each, it, name in zip((found.first, found.second), attention, names, strict=True)
    )
    return [*first, *second[1:]]


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
