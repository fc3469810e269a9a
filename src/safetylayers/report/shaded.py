"""Text whose words are shaded by a score: how strongly each one speaks for something, or against it.

The colours, orange for positive and blue for negative, are also those of a heat map.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from safetylayers.report.checks import require
from safetylayers.report.drawing import FONT, Drawing, LegendItem, Path, Shape, Words, polyline, rectangle
from safetylayers.report.numbers import Axis, Measure, format_number, useful_decimals
from safetylayers.report.scales import Scale, Ticks, make_ticks
from safetylayers.report.tables import Cell, Table
from safetylayers.report.text import text_width

STEPS = 5
"""Steps of colour on each side of zero."""
COLOURS = 2 * STEPS + 1
"""With the one at zero; all are equally wide."""
MAX_FOCUSABLE = 200
"""With more scored words than this the Tab key would be of no use, and only the pointer stops at words."""
_SWATCH = 14.0
"""Width of a colour in the legend of a text, px."""
_BAR = 18.0 * COLOURS
"""Width of all the colours of a heat map's scale, px."""


def step_of(value: float, extent: float) -> int:
    """Which of the eleven steps between -extent and +extent a value falls into, -5 to 5. Values outside are held."""
    size = min(STEPS, math.floor(min(abs(value) / extent, 1.0) * (STEPS + 0.5) + 0.5))
    return size if value > 0 else -size


def step_css(step: int) -> str:
    """The class of a step: "n5" to "n1", "z", "p1" to "p5"."""
    return f"p{step}" if step > 0 else f"n{-step}" if step < 0 else "z"


def extent_of(values: Sequence[float]) -> float:
    """The largest absolute value, 1 where all are zero: a scale symmetrical about zero."""
    return max(map(abs, values), default=0.0) or 1.0


def number_writer(values: Sequence[float], unit: str, *, signed: bool) -> Callable[[float], str]:
    """A function that writes numbers, without their unit, with the decimals that the greatest of `values` deserves."""
    decimals = useful_decimals(values, unit)
    return lambda value: format_number(value, unit, signed=signed, decimals=decimals)


def shown(text: str) -> str:
    """The text, with signs in its place where it is nothing but white space, as a token can be."""
    if text.strip():
        return text
    return text.replace(" ", "␣").replace("\t", "⇥").replace("\n", "↵") or "∅"


@dataclass(frozen=True)
class ShadedWord:
    """A word or token with its score."""

    text: str
    score: float | None
    """None for text that has none, as a chat template's; it is not shaded."""
    note: str = ""
    """Shown beside the number."""


class Piece(NamedTuple):
    """A word as it is printed."""

    text: str
    css: str
    number: str
    note: str


@dataclass(frozen=True)
class ShadedText:
    """A text, each of whose words is shaded by its score's share of the strongest one."""

    caption: str
    words: Sequence[ShadedWord]
    positive: str
    """What a positive score means, as "pushes towards refusal"."""
    negative: str
    unit: str
    """Printed after each number. With "%" or "points", scores are fractions of 1 and shown times 100."""
    note: str = ""
    joined: bool = False
    """Whether the words are tokens, which bring their own spaces along; else a space stands between them."""

    def __post_init__(self) -> None:
        require(bool(self.words), f"Text {self.caption!r} has no words.")
        for index, word in enumerate(self.words):
            require(
                word.score is None or math.isfinite(word.score),
                f"Text {self.caption!r}: the score of word {index} is {word.score}, which cannot be shown.",
                mend="Find out why the measurement gave no number before reporting it.",
            )

    @property
    def scores(self) -> list[float]:
        """Of the words that have one."""
        return [word.score for word in self.words if word.score is not None]

    @property
    def focusable(self) -> bool:
        """Whether the Tab key stops at each scored word."""
        return len(self.scores) <= MAX_FOCUSABLE

    @property
    def pieces(self) -> list[Piece]:
        """The words as they are printed."""
        write, extent = self._writer(), extent_of(self.scores)
        return [
            Piece(word.text, "", "", "")
            if word.score is None
            else Piece(_with_breaks(word.text), step_css(step_of(word.score, extent)), write(word.score), word.note)
            for word in self.words
        ]

    def _writer(self) -> Callable[[float], str]:
        write, suffix = number_writer(self.scores, self.unit, signed=True), Measure(0, unit=self.unit).suffix
        return lambda score: write(score) + suffix

    def legend(self) -> tuple[LegendItem, ...]:
        """What each sign means, and how far it goes."""
        write = self._writer()
        most, least = max(self.scores, default=0.0), min(self.scores, default=0.0)
        return (
            LegendItem(f"{self.positive}: {f'up to {write(most)}' if most > 0 else 'none here'}", _swatches(1)),
            LegendItem(f"{self.negative}: {f'down to {write(least)}' if least < 0 else 'none here'}", _swatches(-1)),
        )

    def numbers(self) -> Table:
        """The words by strength, the strongest first."""
        write = self._writer()
        ranked = sorted(
            ((word.score, place, word) for place, word in enumerate(self.words, start=1) if word.score is not None),
            key=lambda row: (-abs(row[0]), row[1]),
        )
        noted = any(word.note for _, _, word in ranked)
        rows: list[list[Cell]] = [
            [shown(word.text), place, write(score), *([word.note] if noted else [])] for score, place, word in ranked
        ]
        return Table(self.caption, ["Word", "Place in the text", "Score", *(["Note"] if noted else [])], rows)


def _with_breaks(text: str) -> str:
    """The text as `shown`, with the line breaks that it makes."""
    return shown(text).replace("↵", "↵\n") if not text.strip() else text


def _swatches(sign: int) -> Drawing:
    """The colours of a sign from weak to strong, underlined as words of that sign are."""
    colours = [
        Path(rectangle(_SWATCH * step, 0, _SWATCH * (step + 1), 14), step_css(sign * (step + 1)))
        for step in range(STEPS)
    ]
    underline = Path(polyline([(1, 17), (_SWATCH * STEPS - 1, 17)]), "solid" if sign > 0 else "dotted")
    return Drawing(_SWATCH * STEPS, 19, (*colours, underline))


def colour_bar(ends: tuple[float, float], axis: Axis, paint: Callable[[float], str]) -> Drawing:
    """The colours from one end of a scale to the other, with round marks."""
    low, high = ends
    ticks = _few_ticks(low, high, axis)
    margin = max(text_width(text, FONT) for text in ticks.labels) / 2 + 1
    along = Scale(low, high, margin, margin + _BAR)
    shapes: list[Shape] = []
    for index in range(COLOURS):
        left, right = (margin + edge * _BAR / COLOURS for edge in (index, index + 1))
        middle = low + (index + 0.5) / COLOURS * (high - low)
        shapes.append(Path(rectangle(left, 0, right, 14), paint(middle)))
    for value, text in zip(ticks.values, ticks.labels, strict=True):
        shapes.append(Path(polyline([(along(value), 14), (along(value), 18)]), "base"))
        shapes.append(Words(along(value), 31, text, "tick", "middle"))
    return Drawing(_BAR + 2 * margin, 35, tuple(shapes))


def _few_ticks(low: float, high: float, axis: Axis) -> Ticks:
    """Round marks so few that their labels stay apart; the two ends where not even those do."""
    for count in (4, 2):
        ticks = make_ticks(low, high, replace(axis, low=low, high=high), count)
        widest = max((text_width(text, FONT) for text in ticks.labels), default=0.0)
        apart = min((b - a for a, b in pairwise(ticks.values)), default=high - low)
        if ticks.values and widest + 8 <= apart / (high - low) * _BAR:
            return ticks
    return replace(ticks, values=(low, high), labels=(axis.text(low), axis.text(high)))
