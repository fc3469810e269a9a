"""Measures along a quantity of their own: reward against KL divergence, accuracy against labels bought, regret."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from safetylayers.report.checks import finite, require
from safetylayers.report.drawing import FONT, Canvas, Drawing, LegendItem, Path, Shape, polygon, whisker
from safetylayers.report.frame import EDGE, Plot, make_plot, x_axis, y_axis
from safetylayers.report.numbers import Axis
from safetylayers.report.scales import Scale, Ticks, make_ticks
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
from safetylayers.report.text import text_width

_INSET = 8.0
"""Between the plot's sides and the lowest and highest x, so that a mark there is whole, px."""
_TICK_ROOM = 70
"""On average an x tick has at least so much room, px."""
_TICK_GAP = 14.0
"""Least distance between the labels of two x ticks, px."""


@dataclass(frozen=True)
class Curve:
    """A named series of points, each with an x of its own. They are joined in the order given: x may go back."""

    name: str
    x: Sequence[float]
    """[points]."""
    y: Sequence[float]
    """[points]."""
    deviation: Sequence[float] = ()
    """Half the height of the band round the curve, [points]; empty for no band."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "x", finite(self.x, f"x of curve {self.name!r}"))
        object.__setattr__(self, "y", finite(self.y, f"y of curve {self.name!r}"))
        require(
            len(self.x) == len(self.y),
            f"Curve {self.name!r} has {len(self.x)} values of x and {len(self.y)} of y; a point needs both.",
        )
        object.__setattr__(self, "deviation", checked_deviation("Curve", self.name, self.y, self.deviation))

    @property
    def spread(self) -> tuple[float, ...]:
        """The deviation, zeros where none was given."""
        return tuple(self.deviation) or (0.0,) * len(self.y)

    @property
    def points(self) -> tuple[tuple[float, float, float], ...]:
        """(x, y, deviation) of each point."""
        return tuple(zip(self.x, self.y, self.spread, strict=True))


@dataclass(frozen=True)
class CurveChart:
    """Curves over a measured x."""

    caption: str
    x: Axis
    y: Axis
    curves: Sequence[Curve]
    zero_line: bool = False
    """Whether zero is on the y axis and drawn strong."""
    deviation_label: str = "± one standard error"
    note: str = ""

    def __post_init__(self) -> None:
        finite((curve.y[0] for curve in self.curves), f"Chart {self.caption!r}")
        require_few(self.caption, len(self.curves))

    def draw(self, canvas: Canvas) -> Drawing:
        """The picture, at the canvas's width."""
        values = [(y, spread) for curve in self.curves for _, y, spread in curve.points]
        y_ticks = value_ticks(values, self.y, canvas, zero=self.zero_line)
        plot = make_plot(canvas, y_ticks)
        x_ticks = self._x_ticks(plot)
        along = plot.x(x_ticks.low, x_ticks.high, _inset(x_ticks))
        up = plot.y(y_ticks.low, y_ticks.high)
        shapes = y_axis(plot, up, y_ticks, self.y)
        for index, curve in enumerate(self.curves):
            shapes += _area(curve, index, along, up)
        if self.zero_line:
            shapes.append(zero_line(plot, up))
        for index, curve in enumerate(self.curves):
            places = [(along(x), up(y)) for x, y, _ in curve.points]
            shapes += line_shapes(places, self._tips(curve), index, canvas)
        marks = [(along(value), label) for value, label in zip(x_ticks.values, x_ticks.labels, strict=True)]
        shapes += x_axis(plot, marks, self.x)
        return Drawing(canvas.width, canvas.height, tuple(shapes))

    def _x_ticks(self, plot: Plot) -> Ticks:
        """As many round marks as fit side by side; whole numbers where every x is one, as rounds and labels are."""
        every = [x for curve in self.curves for x in curve.x]
        whole = self.x.factor == 1 and all(x.is_integer() for x in every)
        most = max(1, int((plot.right - plot.left) // _TICK_ROOM))
        for count in range(most, 0, -1):
            ticks = make_ticks(min(every), max(every), self.x, count)
            if _fits(ticks, plot) and (not whole or all(value.is_integer() for value in ticks.values)):
                return ticks
        return replace(ticks, values=ticks.values[-1:], labels=ticks.labels[-1:])  # not even two fit

    def _tips(self, curve: Curve) -> list[str]:
        return [f"{curve.name}: {self.y.text(y)} at {self.x.text(x)}" for x, y, _ in curve.points]

    def legend(self) -> tuple[LegendItem, ...]:
        """Names and signs of the curves, and what the bands round them mean."""
        deviates = any(curve.deviation for curve in self.curves)
        return series_legend([curve.name for curve in self.curves], self.deviation_label if deviates else "")

    def describe(self) -> str:
        """The picture in words."""
        listed = " ".join(map(self._describe, self.curves))
        return f"Line chart of {self.y.title} against {self.x.title}. {listed}"

    def _describe(self, curve: Curve) -> str:
        y, x = self.y.text, self.x.text
        low, high = min(curve.y), max(curve.y)
        where = curve.x[curve.y.index(high)]
        return (
            f"{curve.name}: {y(curve.y[0])} at {x(curve.x[0])}, {y(curve.y[-1])} at {x(curve.x[-1])}; "
            f"lowest {y(low)}, highest {y(high)} at {x(where)}."
        )

    def numbers(self) -> Table:
        """What was drawn: a row an x where all curves have the same ones, else a row a point."""
        caption = f"{self.caption} {self.y.title}."
        if len({tuple(curve.x) for curve in self.curves}) == 1:
            header = [self.x.title, *(curve.name for curve in self.curves)]
            return Table(caption, header, self._rows_of_x())
        return Table(caption, ["Curve", self.x.title, self.y.title], self._rows_of_points())

    def _rows_of_x(self) -> list[list[Cell]]:
        columns = [[spread_text(self.y, y, spread) for _, y, spread in curve.points] for curve in self.curves]
        return [list(row) for row in zip(map(self.x.text, self.curves[0].x), *columns, strict=True)]

    def _rows_of_points(self) -> list[list[Cell]]:
        return [
            [curve.name, self.x.text(x), spread_text(self.y, y, spread)]
            for curve in self.curves
            for x, y, spread in curve.points
        ]


def _fits(ticks: Ticks, plot: Plot) -> bool:
    """Whether the labels stay apart below the plot."""
    along = plot.x(ticks.low, ticks.high, _inset(ticks))
    apart = [along(b) - along(a) for a, b in pairwise(ticks.values)]
    return not apart or min(apart) >= _widest(ticks) + _TICK_GAP


def _widest(ticks: Ticks) -> float:
    return max((text_width(label, FONT) for label in ticks.labels), default=0.0)


def _inset(ticks: Ticks) -> float:
    """So much that the label of a tick at the right end stays inside the picture."""
    return max(_INSET, _widest(ticks) / 2 - EDGE)


def _area(curve: Curve, index: int, along: Scale, up: Scale) -> list[Shape]:
    """The band round a curve; round a single point, which a band has no width for, a whisker."""
    if not curve.deviation:
        return []
    edges = [(along(x), up(y + spread), up(y - spread)) for x, y, spread in curve.points]
    if len(edges) == 1:
        [(x, top, bottom)] = edges
        return [Path(whisker((x, bottom), (x, top)), f"cross s{index}")]
    return [Path("".join(map(_ribbon, _runs(edges))), f"area s{index}")]


Edge = tuple[float, float, float]
"""x, upper and lower y of a band at one point, px."""


def _runs(edges: Sequence[Edge]) -> Iterator[list[Edge]]:
    """The band cut where its x turns, each piece from left to right.

    In one piece, a band that goes back over itself would be filled twice in opposite directions, which leaves a hole.
    """
    run = [edges[0]]
    for before, after in pairwise(edges):
        if len(run) > 1 and (after[0] - before[0]) * (before[0] - run[0][0]) < 0:
            yield _rightward(run)
            run = [before]
        run.append(after)
    yield _rightward(run)


def _rightward(run: list[Edge]) -> list[Edge]:
    return run if run[0][0] <= run[-1][0] else run[::-1]


def _ribbon(run: Sequence[Edge]) -> str:
    """The area between the upper and the lower edge."""
    return polygon([*((x, top) for x, top, _ in run), *((x, bottom) for x, _, bottom in reversed(run))])
