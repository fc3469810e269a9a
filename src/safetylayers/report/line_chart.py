"""Measures over the layers of a model: several lines, their deviation, the located range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from safetylayers.report.checks import finite, require
from safetylayers.report.drawing import (
    FONT,
    Canvas,
    Drawing,
    LegendItem,
    Path,
    Shape,
    Words,
    polygon,
    polyline,
    rectangle,
)
from safetylayers.report.frame import ROW, Plot, make_plot, x_axis, y_axis
from safetylayers.report.labels import stack_labels
from safetylayers.report.numbers import Axis
from safetylayers.report.scales import Scale, Ticks, layer_ticks
from safetylayers.report.series import (
    checked_deviation,
    line_shapes,
    require_few,
    series_legend,
    spread_text,
    value_ticks,
    zero_line,
)
from safetylayers.report.tables import Cell, Table
from safetylayers.report.text import shorten, text_width

LAYER_AXIS = Axis("Decoder layer")


@dataclass(frozen=True)
class Line:
    """A named series over consecutive layers."""

    name: str
    values: Sequence[float]
    """[layers]."""
    deviation: Sequence[float] = ()
    """Half the height of the band round the line, [layers]; empty for no band."""
    first: int = 0
    """The layer of the first value."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", finite(self.values, f"Line {self.name!r}"))
        object.__setattr__(self, "deviation", checked_deviation("Line", self.name, self.values, self.deviation))

    @property
    def last(self) -> int:
        """The layer of the last value."""
        return self.first + len(self.values) - 1

    @property
    def spread(self) -> tuple[float, ...]:
        """The deviation, zeros where none was given."""
        return tuple(self.deviation) or (0.0,) * len(self.values)


@dataclass(frozen=True)
class Band:
    """A range of layers to stand out, both ends inclusive."""

    first: int
    last: int
    label: str

    def __post_init__(self) -> None:
        require(self.first <= self.last, f"A band runs from its first layer to its last, not {self.first}-{self.last}.")


@dataclass(frozen=True)
class Marker:
    """A labelled upright line at a layer."""

    at: float
    label: str

    def __post_init__(self) -> None:
        finite([self.at], f"Marker {self.label!r}")


@dataclass(frozen=True)
class LineChart:
    """Lines over layers."""

    caption: str
    y: Axis
    lines: Sequence[Line]
    x: Axis = LAYER_AXIS
    band: Band | None = None
    markers: Sequence[Marker] = ()
    zero_line: bool = False
    """Whether zero is on the axis and drawn strong."""
    deviation_label: str = "± one standard deviation"
    note: str = ""

    def __post_init__(self) -> None:
        finite((line.first for line in self.lines), f"Chart {self.caption!r}")
        require_few(self.caption, len(self.lines))

    def draw(self, canvas: Canvas) -> Drawing:
        """The picture, at the canvas's width."""
        ticks = self._y_ticks(canvas)
        labels = self._labels(canvas.width)
        first, last = self._extent()
        wide = make_plot(canvas, ticks)
        along = wide.x(first - 0.5, last + 0.5)
        widths = [text_width(text, FONT, bold=css == "band-label") for _, text, css in labels]
        places = stack_labels([along(at) for at, _, _ in labels], widths, 0, canvas.width)
        rows = 1 + max((row for _, row in places), default=-1)
        plot = Plot(wide.left, wide.top + rows * ROW, wide.right, wide.bottom)
        up = plot.y(ticks.low, ticks.high)
        shapes: list[Shape] = [*self._band(plot, along), *y_axis(plot, up, ticks, self.y)]
        for index, line in enumerate(self.lines):
            shapes += _area(line, index, along, up)
        if self.zero_line:
            shapes.append(zero_line(plot, up))
        for (at, text, css), (left, row) in zip(labels, places, strict=True):
            level = plot.top - 7 - row * ROW
            if css == "marker-label":
                shapes.append(Path(polyline([(along(at), level + 4), (along(at), plot.bottom)]), "marker"))
            shapes.append(Words(left, level, text, css))
        for index, line in enumerate(self.lines):
            shapes += self._line(line, index, along, up, canvas)
        shapes += x_axis(plot, self._x_marks(plot, along), self.x)
        return Drawing(canvas.width, canvas.height, tuple(shapes))

    def _extent(self) -> tuple[int, int]:
        """The first and the last layer shown."""
        firsts, lasts = [line.first for line in self.lines], [line.last for line in self.lines]
        if self.band:
            firsts.append(self.band.first)
            lasts.append(self.band.last)
        return min(firsts), max(lasts)

    def _y_ticks(self, canvas: Canvas) -> Ticks:
        values = [pair for line in self.lines for pair in zip(line.values, line.spread, strict=True)]
        return value_ticks(values, self.y, canvas, zero=self.zero_line)

    def _labels(self, room: float) -> list[tuple[float, str, str]]:
        """(layer, text, CSS class) of the markers' labels and then the band's, which stands above their lines."""
        labels = [(marker.at, shorten(marker.label, room, FONT), "marker-label") for marker in self.markers]
        if self.band:
            middle = (self.band.first + self.band.last) / 2
            labels.append((middle, shorten(self.band.label, room, FONT, bold=True), "band-label"))
        return labels

    def _band(self, plot: Plot, along: Scale) -> list[Shape]:
        if not self.band:
            return []
        left, right = along(self.band.first - 0.5), along(self.band.last + 0.5)
        tip = f"{self.band.label}: {self.band.first}-{self.band.last}"
        sides = polyline([(left, plot.top), (left, plot.bottom)]) + polyline([(right, plot.top), (right, plot.bottom)])
        return [Path(rectangle(left, plot.top, right, plot.bottom), "band", tip), Path(sides, "band-edge")]

    def _x_marks(self, plot: Plot, along: Scale) -> list[tuple[float, str]]:
        first, last = self._extent()
        room = (text_width(str(last), FONT) + 12) / (plot.right - plot.left)
        return [(along(layer), str(layer)) for layer in layer_ticks(first, last, room)]

    def _line(self, line: Line, index: int, along: Scale, up: Scale, canvas: Canvas) -> list[Shape]:
        points = [(along(line.first + offset), up(value)) for offset, value in enumerate(line.values)]
        tips = [f"{line.name}, {line.first + offset}: {self.y.text(value)}" for offset, value in enumerate(line.values)]
        return line_shapes(points, tips, index, canvas)

    def legend(self) -> tuple[LegendItem, ...]:
        """Names and signs of the lines, and what the bands round them mean."""
        deviates = any(line.deviation for line in self.lines)
        return series_legend([line.name for line in self.lines], self.deviation_label if deviates else "")

    def describe(self) -> str:
        """The picture in words."""
        parts = [f"Line chart of {self.y.title} over {self.x.title.lower()}."]
        for line in self.lines:
            low, high = min(line.values), max(line.values)
            where = line.first + list(line.values).index(high)
            parts.append(
                f"{line.name}: {self.y.text(line.values[0])} at {line.first}, {self.y.text(line.values[-1])} at "
                f"{line.last}; lowest {self.y.text(low)}, highest {self.y.text(high)} at {where}."
            )
        if self.band:
            parts.append(f"Highlighted: {self.band.label}, {self.band.first} to {self.band.last}.")
        parts += [f"Marked: {marker.label} at {marker.at:g}." for marker in self.markers]
        return " ".join(parts)

    def numbers(self) -> Table:
        """What was drawn, a row a layer."""
        first, last = min(line.first for line in self.lines), max(line.last for line in self.lines)
        rows = [[str(layer), *(self._cell(line, layer) for line in self.lines)] for layer in range(first, last + 1)]
        inside = range(self.band.first, self.band.last + 1) if self.band else range(0)
        highlighted = [layer - first for layer in range(first, last + 1) if layer in inside]
        header = [self.x.title, *(line.name for line in self.lines)]
        return Table(f"{self.caption} {self.y.title}.", header, rows, highlighted=highlighted)

    def _cell(self, line: Line, layer: int) -> Cell:
        if not line.first <= layer <= line.last:
            return None
        offset = layer - line.first
        return spread_text(self.y, line.values[offset], line.spread[offset])


def _area(line: Line, index: int, along: Scale, up: Scale) -> list[Shape]:
    """The band round a line."""
    if not len(line.deviation):
        return []
    rows = list(zip(range(line.first, line.last + 1), line.values, line.deviation, strict=True))
    upper = [(along(layer), up(value + spread)) for layer, value, spread in rows]
    lower = [(along(layer), up(value - spread)) for layer, value, spread in reversed(rows)]
    return [Path(polygon([*upper, *lower]), f"area s{index}")]
