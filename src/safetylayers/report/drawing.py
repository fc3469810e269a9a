"""Shapes of a chart, as data; `templates/chart.html.j2` writes them as SVG.

Why own SVG and not matplotlib's: inline SVG takes its colours from the page's CSS variables, so one chart follows the
reader's light or dark scheme and prints light; it needs no script; every text goes through Jinja2's escaping; a chart
is a few kB. matplotlib's SVG has its colours and glyphs burnt in.

A chart is drawn twice, wide and narrow, and CSS shows the one that fits: scaled down to a phone, the wide one's text
would be too small to read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from safetylayers.report.tables import Table

FONT = 13.0
"""Size of all text in a chart, px."""
MAX_SERIES = 12
"""Six colours with six shapes, filled and hollow."""


@dataclass(frozen=True)
class Canvas:
    """Room for a drawing, px."""

    width: float
    height: float
    narrow: bool = False


WIDE = Canvas(800, 400)
NARROW = Canvas(380, 310, narrow=True)


@dataclass(frozen=True)
class Path:
    """A line or an area."""

    d: str
    css: str
    tip: str = ""
    """Shown where the pointer rests on it."""


@dataclass(frozen=True)
class Words:
    """A piece of text; y is its baseline."""

    x: float
    y: float
    text: str
    css: str = ""
    anchor: Literal["start", "middle", "end"] = "start"


Shape = Path | Words


@dataclass(frozen=True)
class Drawing:
    """A finished picture: shapes from back to front."""

    width: float
    height: float
    shapes: tuple[Shape, ...]


@dataclass(frozen=True)
class LegendItem:
    """A name and the sign that stands for it."""

    name: str
    sign: Drawing


class Chart(Protocol):
    """What the page asks of a chart."""

    @property
    def caption(self) -> str:
        """What the chart shows, in one sentence."""

    @property
    def note(self) -> str:
        """How to read it, or nothing."""

    def draw(self, canvas: Canvas) -> Drawing:
        """The picture, at the canvas's width."""

    def legend(self) -> tuple[LegendItem, ...]:
        """Names and signs of the series."""

    def describe(self) -> str:
        """The picture in words, for those who do not see it."""

    def numbers(self) -> Table:
        """What was drawn, as a table."""


def px(value: float) -> str:
    """A coordinate, to a hundredth of a pixel."""
    return f"{round(value, 2) + 0.0:.8g}"  # adding 0 turns -0 into 0


def polyline(points: Iterable[tuple[float, float]]) -> str:
    """An open path through the points."""
    return "M" + "L".join(f"{px(x)} {px(y)}" for x, y in points)


def polygon(points: Iterable[tuple[float, float]]) -> str:
    """A closed path through the points."""
    return polyline(points) + "Z"


def rectangle(left: float, top: float, right: float, bottom: float) -> str:
    """A closed path round the rectangle."""
    return polygon([(left, top), (right, top), (right, bottom), (left, bottom)])


def whisker(start: tuple[float, float], end: tuple[float, float], cap: float = 4) -> str:
    """An upright or level interval with a short bar across each end."""
    across, up = (cap, 0.0) if start[0] == end[0] else (0.0, cap)
    bars = [polyline([(x - across, y - up), (x + across, y + up)]) for x, y in (start, end)]
    return polyline([start, end]) + "".join(bars)


def _circle(x: float, y: float, r: float) -> str:
    return f"M{px(x - r)} {px(y)}a{px(r)} {px(r)} 0 1 0 {px(2 * r)} 0a{px(r)} {px(r)} 0 1 0 {px(-2 * r)} 0Z"


_OUTLINES: Sequence[tuple[tuple[float, float], ...]] = (
    ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    ((0, -1.2), (1.15, 0.9), (-1.15, 0.9)),
    ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
    ((0, 1.2), (1.15, -0.9), (-1.15, -0.9)),
    (
        *((-1.2, -0.4), (-0.4, -0.4), (-0.4, -1.2), (0.4, -1.2), (0.4, -0.4), (1.2, -0.4)),
        *((1.2, 0.4), (0.4, 0.4), (0.4, 1.2), (-0.4, 1.2), (-0.4, 0.4), (-1.2, 0.4)),
    ),
)
"""Square, triangle up, diamond, triangle down, cross; series 0 is a circle."""


def mark(series: int, x: float, y: float, r: float, tip: str = "") -> Path:
    """The sign of a series at a point: its shape, its colour, hollow from the seventh series on."""
    shape = series % 6
    d = _circle(x, y, r) if shape == 0 else polygon((x + dx * r, y + dy * r) for dx, dy in _OUTLINES[shape - 1])
    hollow = " hollow" if series >= 6 else ""
    return Path(d, f"mark s{shape}{hollow}", tip)
