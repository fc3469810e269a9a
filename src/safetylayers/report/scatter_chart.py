"""The trade-off picture: two measures of each method, with both intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from safetylayers.report.checks import finite, require
from safetylayers.report.drawing import (
    FONT,
    MAX_SERIES,
    Canvas,
    Drawing,
    LegendItem,
    Path,
    Shape,
    Words,
    mark,
    polygon,
    polyline,
    whisker,
)
from safetylayers.report.frame import HEAD, Plot, make_plot, x_axis, y_axis
from safetylayers.report.labels import GAP, LEADER_FROM, Box, label_box, least_crowded, place_labels
from safetylayers.report.numbers import Axis, Measure
from safetylayers.report.scales import Scale, Ticks, make_ticks
from safetylayers.report.tables import Cell, Table
from safetylayers.report.text import shorten, text_width

Corner = Literal["top left", "top right", "bottom left", "bottom right"]
_ARROWS: dict[Corner, str] = {"top left": "↖", "top right": "↗", "bottom left": "↙", "bottom right": "↘"}
_INSET = 26.0
"""Between the axes and the lowest and highest values, so that a mark at 0 is whole and its label fits below it, px."""


@dataclass(frozen=True)
class Dot:
    """A method and its two measures."""

    name: str
    x: Measure
    y: Measure


@dataclass(frozen=True)
class ScatterChart:
    """One measure against another."""

    caption: str
    x: Axis
    y: Axis
    dots: Sequence[Dot]
    better: Corner | None = None
    """The corner where both measures are best."""
    note: str = ""

    def __post_init__(self) -> None:
        finite((dot.x.value for dot in self.dots), f"Chart {self.caption!r}")
        require(
            len(self.dots) <= MAX_SERIES,
            f"Chart {self.caption!r} has {len(self.dots)} points; at most {MAX_SERIES} can be told apart.",
            mend="Show fewer methods, or use a ForestChart.",
        )

    def draw(self, canvas: Canvas) -> Drawing:
        """The picture, at the canvas's width."""
        x_ticks = _ticks([dot.x for dot in self.dots], self.x, int(canvas.width // 80))
        y_ticks = _ticks([dot.y for dot in self.dots], self.y, int((canvas.height - HEAD) // 50))
        plot = make_plot(canvas, y_ticks)
        along = plot.x(x_ticks.low, x_ticks.high, _INSET)
        up = plot.y(y_ticks.low, y_ticks.high, _INSET)
        points = [(along(dot.x.value), up(dot.y.value)) for dot in self.dots]
        marks = [(along(value), label) for value, label in zip(x_ticks.values, x_ticks.labels, strict=True)]
        shapes: list[Shape] = [*self._corner(plot), *y_axis(plot, up, y_ticks, self.y)]
        shapes += x_axis(plot, marks, self.x, upright=True)
        obstacles: list[Box] = []
        for index, dot in enumerate(self.dots):
            lines = _whiskers(dot, points[index], along, up)
            shapes += [Path(whisker(*line), f"cross s{index % 6}") for line in lines]
            obstacles += [_hull(line) for line in lines]
        better = self._better(plot, obstacles, points)
        shapes += [Words(box.x, box.y + FONT, text, "better-label") for text, box in better]
        shapes += self._labels(plot, points, obstacles, [box for _, box in better])
        shapes += [
            mark(index, x, y, 5.5, f"{dot.name}: {self._text(dot)}")
            for index, (dot, (x, y)) in enumerate(zip(self.dots, points, strict=True))
        ]
        return Drawing(canvas.width, canvas.height, tuple(shapes))

    def _corner(self, plot: Plot) -> list[Shape]:
        """A tinted wedge in the better corner."""
        if self.better is None:
            return []
        size = 0.42 * min(plot.right - plot.left, plot.bottom - plot.top)
        x, inward = (plot.left, size) if "left" in self.better else (plot.right, -size)
        y, down = (plot.top, size) if "top" in self.better else (plot.bottom, -size)
        return [Path(polygon([(x, y), (x + inward, y), (x, y + down)]), "better")]

    def _better(
        self, plot: Plot, whiskers: Sequence[Box], points: Sequence[tuple[float, float]]
    ) -> list[tuple[str, Box]]:
        """The word "better" and its place: in the corner, moved along its edges where a point is in the way."""
        if self.better is None:
            return []
        text = f"{_ARROWS[self.better]} better"
        room = label_box(text, 0, 0, bold=True)
        left = plot.left + 6 if "left" in self.better else plot.right - room.width - 6
        top = plot.top + 5 if "top" in self.better else plot.bottom - room.height - 5
        across = 1 if "left" in self.better else -1
        down = 1 if "top" in self.better else -1
        steps = [(0, 0), *((0, n) for n in range(1, 5)), *((n, 0) for n in range(1, 5))]
        spots = [Box(left + across * 30 * n, top + down * 22 * m, room.width, room.height) for n, m in steps]
        return [(text, least_crowded(spots, [*whiskers, *(Box(x - 8, y - 8, 16, 16) for x, y in points)]))]

    def _labels(
        self, plot: Plot, points: Sequence[tuple[float, float]], whiskers: Sequence[Box], taken: Sequence[Box]
    ) -> list[Shape]:
        names = [shorten(dot.name, 0.6 * (plot.right - plot.left), FONT, bold=True) for dot in self.dots]
        widths = [text_width(name, FONT, bold=True) for name in names]
        inner = plot.box
        area = Box(inner.x + GAP, inner.y + GAP, inner.width - 2 * GAP, inner.height - 2 * GAP)
        shapes: list[Shape] = []
        boxes = place_labels(points, widths, area, [*whiskers, *taken])
        for name, box, (x, y) in zip(names, boxes, points, strict=True):
            if box is None:  # the legend names it all the same
                continue
            if box.distance(x, y) > LEADER_FROM:
                shapes.append(Path(polyline([(x, y), box.nearest(x, y)]), "leader"))
            shapes.append(Words(box.x, box.y + FONT, name, "dot-label"))
        return shapes

    def _text(self, dot: Dot) -> str:
        return "; ".join(
            f"{axis.label} {replace(measure, unit=axis.unit).full_text}"
            for axis, measure in ((self.x, dot.x), (self.y, dot.y))
        )

    def legend(self) -> tuple[LegendItem, ...]:
        """Names and signs of the methods."""
        return tuple(
            LegendItem(dot.name, Drawing(18, 14, (mark(index, 9, 7, 5),))) for index, dot in enumerate(self.dots)
        )

    def describe(self) -> str:
        """The picture in words."""
        better = f" Better is {self.better}." if self.better else ""
        listed = " ".join(f"{dot.name}: {self._text(dot)}." for dot in self.dots)
        return f"Scatter chart of {self.y.title} against {self.x.title}.{better} {listed}"

    def numbers(self) -> Table:
        """What was drawn, a row a method."""
        rows: list[list[Cell]] = [
            [dot.name, replace(dot.x, unit=self.x.unit), replace(dot.y, unit=self.y.unit)] for dot in self.dots
        ]
        return Table(self.caption, ["Method", self.x.label, self.y.label], rows)


def _ticks(measures: Sequence[Measure], axis: Axis, count: int) -> Ticks:
    ends = [end for measure in measures for end in (measure.value, *measure.ends)]
    return make_ticks(min(ends), max(ends), axis, count)


def _whiskers(
    dot: Dot, point: tuple[float, float], along: Scale, up: Scale
) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """The level and the upright interval of a point, as pairs of ends."""
    x, y = point
    lines = []
    if dot.x.ends:
        lines.append(((along(dot.x.ends[0]), y), (along(dot.x.ends[1]), y)))
    if dot.y.ends:
        lines.append(((x, up(dot.y.ends[0])), (x, up(dot.y.ends[1]))))
    return lines


def _hull(line: tuple[tuple[float, float], tuple[float, float]]) -> Box:
    """The room that a whisker takes."""
    (x1, y1), (x2, y2) = line
    left, top = min(x1, x2) - 1, min(y1, y2) - 1
    return Box(left, top, abs(x2 - x1) + 2, abs(y2 - y1) + 2)
