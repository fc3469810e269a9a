"""A measure of each method with its interval, one under the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from safetylayers.report.checks import finite
from safetylayers.report.drawing import (
    FONT,
    Canvas,
    Drawing,
    LegendItem,
    Path,
    Shape,
    Words,
    mark,
    polyline,
    rectangle,
    whisker,
)
from safetylayers.report.frame import FOOT, Plot, x_axis
from safetylayers.report.numbers import Axis, Measure
from safetylayers.report.scales import Scale, make_ticks
from safetylayers.report.tables import Cell, Table
from safetylayers.report.text import shorten, text_width

_ROW_WIDE, _ROW_NARROW = 34.0, 48.0


@dataclass(frozen=True)
class Bar:
    """A method and its measure."""

    name: str
    measure: Measure
    highlighted: bool = False


@dataclass(frozen=True)
class ForestChart:
    """Measures with intervals, a row each. A bar is drawn where the axis begins at zero."""

    caption: str
    x: Axis
    bars: Sequence[Bar]
    reference: float | None = None
    """Where an upright line stands, as the value before fine-tuning."""
    reference_label: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        finite((bar.measure.value for bar in self.bars), f"Chart {self.caption!r}")
        if self.reference is not None:
            finite([self.reference], f"Reference of chart {self.caption!r}")

    def draw(self, canvas: Canvas) -> Drawing:
        """The picture; as high as the number of rows asks, whatever the canvas's height."""
        row = _ROW_NARROW if canvas.narrow else _ROW_WIDE
        top = 26.0 if self.reference_label and self.reference is not None else 6.0
        bottom = top + row * len(self.bars)
        plot = self._plot(canvas, top, bottom)
        ends = [end for bar in self.bars for end in (bar.measure.value, *bar.measure.ends)]
        ends += [self.reference] if self.reference is not None else []
        ticks = make_ticks(min(ends), max(ends), self.x, int((plot.right - plot.left) // 70))
        along = plot.x(ticks.low, ticks.high)
        marks = [(along(value), label) for value, label in zip(ticks.values, ticks.labels, strict=True)]
        shapes = x_axis(plot, marks, self.x, upright=True)
        shapes += self._reference(plot, along, canvas)
        for index, bar in enumerate(self.bars):
            middle = top + row * (index + (0.68 if canvas.narrow else 0.5))
            shapes += self._bar(bar, middle, along, canvas)
            shapes += self._names(bar, middle, plot, canvas)
        return Drawing(canvas.width, bottom + FOOT, tuple(shapes))

    def _plot(self, canvas: Canvas, top: float, bottom: float) -> Plot:
        """Wide: names left, values right of the plot. Narrow: both above their row, the plot as wide as the page."""
        if canvas.narrow:
            return Plot(12, top, canvas.width - 14, bottom)
        names = max(text_width(bar.name, FONT, bold=bar.highlighted) for bar in self.bars)
        values = max(text_width(self._text(bar), FONT) for bar in self.bars)
        return Plot(min(names, 240) + 14, top, canvas.width - values - 16, bottom)

    def _text(self, bar: Bar) -> str:
        return replace(bar.measure, unit=self.x.unit).full_text

    def _bar(self, bar: Bar, middle: float, along: Scale, canvas: Canvas) -> list[Shape]:
        css = " chosen" if bar.highlighted else " plain"
        shapes: list[Shape] = []
        value = along(bar.measure.value)
        if along.low <= 0 <= along.high:
            half = 7 if canvas.narrow else 9
            left, right = sorted((along(0), value))
            shapes.append(Path(rectangle(left, middle - half, right, middle + half), "bar" + css))
        if bar.measure.ends:
            low, high = map(along, bar.measure.ends)
            shapes.append(Path(whisker((low, middle), (high, middle)), "whisker"))
        dot = mark(0, value, middle, 5)
        return [*shapes, Path(dot.d, "mark" + css, f"{bar.name}: {self._text(bar)}")]

    def _names(self, bar: Bar, middle: float, plot: Plot, canvas: Canvas) -> list[Shape]:
        css = "row-label chosen" if bar.highlighted else "row-label"
        text = self._text(bar)
        if canvas.narrow:
            room = canvas.width - text_width(text, FONT) - 12
            level = middle - 16
            return [
                Words(0, level, shorten(bar.name, room, FONT, bold=bar.highlighted), css),
                Words(canvas.width, level, text, "row-value", "end"),
            ]
        level = middle + FONT * 0.35
        return [
            Words(plot.left - 12, level, shorten(bar.name, 240, FONT, bold=bar.highlighted), css, "end"),
            Words(canvas.width, level, text, "row-value", "end"),
        ]

    def _reference(self, plot: Plot, along: Scale, canvas: Canvas) -> list[Shape]:
        if self.reference is None:
            return []
        x = along(self.reference)
        shapes: list[Shape] = [Path(polyline([(x, plot.top - 4), (x, plot.bottom)]), "reference")]
        if self.reference_label:
            text = shorten(f"{self.reference_label}: {self.x.text(self.reference)}", canvas.width, FONT)
            width = text_width(text, FONT)
            left = max(0.0, min(x - width / 2, canvas.width - width))
            shapes.append(Words(left, plot.top - 9, text, "reference-label"))
        return shapes

    def legend(self) -> tuple[LegendItem, ...]:
        """None: each row bears its name."""
        return ()

    def describe(self) -> str:
        """The picture in words."""
        listed = " ".join(f"{bar.name}: {self._text(bar)}." for bar in self.bars)
        return f"{self.x.title} of each row. {listed}"

    def numbers(self) -> Table:
        """What was drawn, a row a method."""
        rows: list[list[Cell]] = [[bar.name, replace(bar.measure, unit=self.x.unit)] for bar in self.bars]
        marked = [index for index, bar in enumerate(self.bars) if bar.highlighted]
        return Table(self.caption, ["", self.x.label], rows, highlighted=marked)
