"""The frame that charts share: plot area, grid, ticks, axis titles."""

from __future__ import annotations

from dataclasses import dataclass

from safetylayers.report.drawing import FONT, Canvas, Path, Shape, Words, polyline
from safetylayers.report.labels import Box
from safetylayers.report.numbers import Axis
from safetylayers.report.scales import Scale, Ticks
from safetylayers.report.text import shorten, text_width

HEAD = 26.0
"""Height of the line that holds the title of the y axis, px."""
FOOT = 46.0
"""Height below the plot: tick labels and the title of the x axis, px."""
ROW = 19.0
"""Height of a row of labels above the plot, px."""
EDGE = 12.0
"""Free space at the right, px."""


@dataclass(frozen=True)
class Plot:
    """The plot area, px."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def box(self) -> Box:
        """The area as a box."""
        return Box(self.left, self.top, self.right - self.left, self.bottom - self.top)

    def x(self, low: float, high: float, inset: float = 0.0) -> Scale:
        """A scale from left to right."""
        return Scale(low, high, self.left + inset, self.right - inset)

    def y(self, low: float, high: float, inset: float = 0.0) -> Scale:
        """A scale from bottom to top."""
        return Scale(low, high, self.bottom - inset, self.top + inset)


def make_plot(canvas: Canvas, y: Ticks, rows: int = 0) -> Plot:
    """The plot area that leaves room for the y axis's labels and for `rows` of labels above."""
    left = 12 + max((text_width(label, FONT) for label in y.labels), default=0)
    return Plot(round(left, 1), HEAD + rows * ROW + 4, canvas.width - EDGE, canvas.height - FOOT)


def y_axis(plot: Plot, scale: Scale, ticks: Ticks, axis: Axis) -> list[Shape]:
    """Grid lines, their labels, and the axis's title, level above the plot, where it is read without a turned head."""
    shapes: list[Shape] = [Words(0, FONT + 1, shorten(axis.title, plot.right, FONT), "axis-title")]
    for value, label in zip(ticks.values, ticks.labels, strict=True):
        level = scale(value)
        shapes.append(Path(polyline([(plot.left, level), (plot.right, level)]), "grid"))
        shapes.append(Words(plot.left - 7, level + FONT * 0.35, label, "tick", "end"))
    return shapes


def x_axis(plot: Plot, marks: list[tuple[float, str]], axis: Axis, upright: bool = False) -> list[Shape]:
    """Ticks at the given pixels, base line and title; with `upright`, grid lines too."""
    shapes: list[Shape] = [Path(polyline([(plot.left, plot.bottom), (plot.right, plot.bottom)]), "base")]
    for place, label in marks:
        far = plot.top if upright else plot.bottom + 4
        shapes.append(Path(polyline([(place, plot.bottom), (place, far)]), "grid" if upright else "base"))
        shapes.append(Words(place, plot.bottom + 19, label, "tick", "middle"))
    shapes.append(x_title(plot, axis))
    return shapes


def x_title(plot: Plot, axis: Axis) -> Words:
    """The title of the x axis, at its right end."""
    title = shorten(axis.title, plot.right - plot.left, FONT)
    return Words(plot.right, plot.bottom + 40, title, "axis-title", "end")
