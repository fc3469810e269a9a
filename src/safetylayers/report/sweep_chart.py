"""Sweeps: a count for each candidate range, the chosen one marked (the paper, section 3 and table 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from safetylayers.report.checks import finite, require
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
    whisker,
)
from safetylayers.report.frame import HEAD, Plot, make_plot, x_axis, y_axis
from safetylayers.report.labels import Box, label_box, least_crowded
from safetylayers.report.numbers import Axis, Measure
from safetylayers.report.scales import Scale, make_ticks
from safetylayers.report.tables import Cell, Table
from safetylayers.report.text import shorten, text_width

RANGE_AXIS = Axis("Scaled layers [first, last]")


@dataclass(frozen=True)
class Candidate:
    """One of the ranges that were tried."""

    label: str
    """Short, as "[6, 12]"."""
    count: float | Measure
    """What was counted, with its interval where there is one."""

    @property
    def measure(self) -> Measure:
        """The count as a measure."""
        return self.count if isinstance(self.count, Measure) else Measure(self.count)


@dataclass(frozen=True)
class SweepChart:
    """Counts over candidates."""

    caption: str
    y: Axis
    candidates: Sequence[Candidate]
    chosen: int | None = None
    """Index of the chosen candidate."""
    x: Axis = RANGE_AXIS
    reference: float | None = None
    """The count without scaling."""
    reference_label: str = "unscaled"
    note: str = ""

    def __post_init__(self) -> None:
        finite((item.measure.value for item in self.candidates), f"Chart {self.caption!r}")
        if self.reference is not None:
            finite([self.reference], f"Reference of chart {self.caption!r}")
        require(
            self.chosen is None or 0 <= self.chosen < len(self.candidates),
            f"Chart {self.caption!r} has {len(self.candidates)} candidates; number {self.chosen} cannot be chosen.",
        )

    def draw(self, canvas: Canvas) -> Drawing:
        """The picture, at the canvas's width."""
        measures = [item.measure for item in self.candidates]
        ends = [end for measure in measures for end in (measure.value, *measure.ends)]
        ends += [self.reference] if self.reference is not None else []
        ticks = make_ticks(min(ends), max(ends), self.y, int((canvas.height - HEAD) // 60))
        plot = make_plot(canvas, ticks, rows=1)
        up = plot.y(ticks.low, ticks.high)
        along = plot.x(-0.5, len(measures) - 0.5)
        points = [(along(index), up(measure.value)) for index, measure in enumerate(measures)]
        shapes: list[Shape] = [*y_axis(plot, up, ticks, self.y)]
        shapes += self._chosen_line(plot, points)
        shapes.append(Path(polyline(points), "thread"))
        for (x, _), measure in zip(points, measures, strict=True):
            if measure.ends:
                shapes.append(Path(whisker((x, up(measure.ends[0])), (x, up(measure.ends[1]))), "whisker"))
        shapes += self._marks(points)
        shapes += self._reference(plot, up, points)
        shapes += self._value_label(points, measures, up, canvas)
        shapes += self._x_axis(plot, along)
        return Drawing(canvas.width, canvas.height, tuple(shapes))

    def _chosen_line(self, plot: Plot, points: Sequence[tuple[float, float]]) -> list[Shape]:
        if self.chosen is None:
            return []
        x = points[self.chosen][0]
        return [Path(polyline([(x, plot.top), (x, plot.bottom)]), "chosen-line")]

    def _marks(self, points: Sequence[tuple[float, float]]) -> list[Shape]:
        shapes: list[Shape] = []
        for index, (x, y) in enumerate(points):
            item = self.candidates[index]
            tip = f"{item.label}: {self._text(item)}"
            chosen = index == self.chosen
            shape = mark(0, x, y, 6.5 if chosen else 4.0, tip)
            shapes.append(Path(shape.d, "mark chosen" if chosen else "mark plain", tip))
        return shapes

    def _text(self, item: Candidate) -> str:
        return replace(item.measure, unit=self.y.unit).full_text

    def _value_label(
        self, points: Sequence[tuple[float, float]], measures: Sequence[Measure], up: Scale, canvas: Canvas
    ) -> list[Shape]:
        """The chosen candidate's value, above its whisker."""
        if self.chosen is None:
            return []
        x, y = points[self.chosen]
        measure = measures[self.chosen]
        top = min(y - 8, up(measure.ends[1]) if measure.ends else y)
        text = self.y.text(measure.value)
        half = text_width(text, FONT, bold=True) / 2
        return [Words(max(half, min(x, canvas.width - half)), top - 6, text, "chosen-label", "middle")]

    def _reference(self, plot: Plot, up: Scale, points: Sequence[tuple[float, float]]) -> list[Shape]:
        if self.reference is None:
            return []
        level = up(self.reference)
        text = shorten(f"{self.reference_label}: {self.y.text(self.reference)}", plot.right - plot.left, FONT)
        room = label_box(text, 0, 0)
        spots = [
            Box(x, y, room.width, room.height)
            for x in (plot.right - room.width, plot.left + 4)
            for y in (level - room.height - 3, level + 4)
            if plot.top <= y and y + room.height <= plot.bottom
        ]
        spot = least_crowded(spots, [Box(x - 7, y - 7, 14, 14) for x, y in points])
        line = Path(polyline([(plot.left, level), (plot.right, level)]), "reference")
        return [line, Words(spot.x, spot.y + FONT, text, "reference-label")]

    def _x_axis(self, plot: Plot, along: Scale) -> list[Shape]:
        """Labels of as many candidates as fit, counted from the chosen one, which always has its own."""
        labels = [shorten(item.label, 110, FONT) for item in self.candidates]
        room = max(text_width(label, FONT, bold=True) for label in labels) + 8
        every = max(1, -int(-room * len(labels) // (plot.right - plot.left)))
        start = self.chosen or 0
        shown = [(along(i), text) for i, text in enumerate(labels) if (i - start) % every == 0]
        shapes = x_axis(plot, shown, self.x)
        if self.chosen is None:
            return shapes
        chosen = Words(along(self.chosen), plot.bottom + 19, labels[self.chosen], "chosen-label", "middle")
        at = next(i for i, s in enumerate(shapes) if isinstance(s, Words) and s.x == chosen.x and s.css == "tick")
        return [*shapes[:at], chosen, *shapes[at + 1 :]]

    def legend(self) -> tuple[LegendItem, ...]:
        """The sign of the chosen candidate."""
        if self.chosen is None:
            return ()
        sign = mark(0, 9, 7, 6)
        name = f"chosen: {self.candidates[self.chosen].label}"
        return (LegendItem(name, Drawing(18, 14, (Path(sign.d, "mark chosen"),))),)

    def describe(self) -> str:
        """The picture in words."""
        listed = ", ".join(f"{item.label} {self.y.text(item.measure.value)}" for item in self.candidates)
        chosen = "" if self.chosen is None else f" Chosen: {self.candidates[self.chosen].label}."
        base = "" if self.reference is None else f" {self.reference_label}: {self.y.text(self.reference)}."
        return f"{self.y.title} for each candidate: {listed}.{chosen}{base}"

    def numbers(self) -> Table:
        """What was drawn, a row a candidate."""
        rows: list[list[Cell]] = [[item.label, replace(item.measure, unit=self.y.unit)] for item in self.candidates]
        chosen = () if self.chosen is None else (self.chosen,)
        return Table(self.caption, [self.x.title, self.y.title], rows, highlighted=chosen)
