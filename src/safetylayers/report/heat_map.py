"""Numbers over two things at once, as layers and words: a cell each, its colour the number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import ClassVar

from safetylayers.report.checks import require
from safetylayers.report.drawing import FONT, Canvas, Drawing, LegendItem, Path, Shape, Words, rectangle
from safetylayers.report.frame import HEAD
from safetylayers.report.line_chart import LAYER_AXIS, Band
from safetylayers.report.numbers import Axis
from safetylayers.report.shaded import COLOURS, colour_bar, extent_of, number_writer, shown, step_css, step_of
from safetylayers.report.tables import Table
from safetylayers.report.text import shorten, text_width

WORD_AXIS = Axis("Word")
MAX_CELLS = 6_400
"""As many as leave a page room for something else; 80 layers and 80 words."""
_LEAST_WIDTH = 15
"""A column's label, turned upright, needs so much, px. A map that gets wider than its canvas is scrolled."""
_GUTTER = 22
"""At the left, for the label of the highlighted rows, px."""
_LABEL_GAP = 7
"""Between a label and the cells, px."""
_TITLE = 240
"""The title's width above a map that is scrolled, px: the hint beside it is seen on the narrowest screen."""


@dataclass(frozen=True)
class Upright(Words):
    """A piece of text that is read from bottom to top."""

    turned: ClassVar[bool] = True


@dataclass(frozen=True)
class Grid:
    """Where the cells are, px."""

    left: int
    top: int
    width: int
    """Of a cell."""
    height: int


@dataclass(frozen=True)
class GridDrawing(Drawing):
    """A picture with cells behind its other shapes.

    Cells are drawn in units of their own, "M3 7h1v1h-1" being the cell of column 3 and row 7: that keeps a page of
    thousands small. A picture wider than its canvas is scrolled, all but the `fixed` shapes.
    """

    grid: Grid
    cells: tuple[Path, ...]
    fixed: tuple[Shape, ...] = ()
    """Those of `shapes` which stay in sight while the rest is scrolled, in a box at the lower left."""
    fixed_width: float = 0.0
    fixed_height: float = 0.0


@dataclass(frozen=True)
class HeatMap:
    """Rows by columns of numbers, the first row at the top."""

    caption: str
    value: Axis
    """What the colour shows. Where its `low` and `high` are set, the scale ends there; by itself, at the data."""
    rows: Sequence[str]
    """Labels, as layers."""
    columns: Sequence[str]
    """Labels, as words or tokens."""
    values: Sequence[Sequence[float | None]]
    """[rows][columns]; None where there is no number."""
    x: Axis = WORD_AXIS
    y: Axis = LAYER_AXIS
    diverging: bool = True
    """Whether the sign is what matters: two colours, and a scale symmetrical about zero. Else one, from low to high."""
    band: Band | None = None
    """Rows to stand out, by index."""
    note: str = ""

    def __post_init__(self) -> None:
        name = f"Heat map {self.caption!r}"
        require(bool(self.rows) and bool(self.columns), f"{name} has no cells.")
        sizes = {len(row) for row in self.values}
        require(
            len(self.values) == len(self.rows) and sizes == {len(self.columns)},
            f"{name} needs {len(self.rows)} rows of {len(self.columns)} values; "
            f"it has {len(self.values)} rows of {' or '.join(map(str, sorted(sizes))) or 'no'} values.",
        )
        require(
            len(self.rows) * len(self.columns) <= MAX_CELLS,
            f"{name} has {len(self.rows)} x {len(self.columns)} cells; at most {MAX_CELLS:,} fit a page.",
            mend="Show fewer words, or every other layer.",
        )
        require(
            all(map(math.isfinite, self._known)),
            f"{name} holds a number that is NaN or infinite, which cannot be drawn.",
            mend="Give None where there is no number, and find out why the measurement gave none.",
        )
        require(
            self.band is None or 0 <= self.band.first <= self.band.last < len(self.rows),
            f"{name} has {len(self.rows)} rows; the highlighted ones are not all among them.",
        )

    @property
    def _known(self) -> list[float]:
        return [value for row in self.values for value in row if value is not None]

    @property
    def ends(self) -> tuple[float, float]:
        """The values at the two ends of the colour scale."""
        low, high = self.value.low, self.value.high
        if self.diverging:
            extent = extent_of([end for end in (low, high) if end is not None] or self._known)
            return -extent, extent
        low = min(self._known, default=0.0) if low is None else low
        high = max(self._known, default=1.0) if high is None else high
        return low, high if high > low else low + 1

    def painter(self) -> Callable[[float], str]:
        """A function from a value to the class of its colour: a diverging step's, or "q0" to "q10"."""
        low, high = self.ends
        if self.diverging:
            return lambda value: step_css(step_of(value, high))
        return lambda value: f"q{max(0, min(COLOURS - 1, math.floor((value - low) / (high - low) * COLOURS)))}"

    def draw(self, canvas: Canvas) -> GridDrawing:
        """The picture, at the canvas's width; wider, to be scrolled, where the columns' labels need more."""
        rows = [shorten(shown(text), 100, FONT, bold=True) for text in self.rows]
        columns = [shorten(shown(text), 90, FONT) for text in self.columns]
        widest = max(text_width(text, FONT) for text in columns)
        left = self._left(rows)
        width = int(min(max(72, widest + 10), max(_LEAST_WIDTH, (canvas.width - left - 2) // len(columns))))
        level = widest + 6 <= width
        top = math.ceil(HEAD + (FONT if level else widest) + _LABEL_GAP + 2)
        grid = Grid(left, top, width, min(28, max(16, 480 // len(rows))))
        labels = self._labels(rows, grid)
        right, bottom = left + width * len(columns) + 2, top + grid.height * len(rows) + 2
        broad = right > canvas.width
        title = self._title(canvas, broad=broad)
        shapes = (*title, *labels, *_heads(columns, grid, level=level), *self._outline(grid))
        if not broad:
            return GridDrawing(canvas.width, bottom, shapes, grid, self._cells())
        return GridDrawing(right, bottom, shapes, grid, self._cells(), tuple(labels), left - 3, bottom - HEAD)

    def _title(self, canvas: Canvas, *, broad: bool) -> list[Shape]:
        """What rows and columns are, level above the map, and that there is more to the right where there is."""
        text = f"{self.y.title} ↓  {self.x.title} →"
        if not broad:
            return [Words(0, FONT + 1, shorten(text, canvas.width, FONT), "axis-title")]
        text = shorten(text, _TITLE, FONT)
        hint = Words(round(text_width(text, FONT)) + 6, FONT + 1, "(scroll sideways)", "scroll-hint")
        return [Words(0, FONT + 1, text, "axis-title"), hint]

    def _left(self, rows: Sequence[str]) -> int:
        labels = max(text_width(text, FONT, bold=self.band is not None) for text in rows)
        return math.ceil(labels) + _LABEL_GAP + 3 + (_GUTTER if self.band else 0)

    def _labels(self, rows: Sequence[str], grid: Grid) -> list[Shape]:
        """The rows' labels, and the highlighted ones' own beside them."""
        shapes: list[Shape] = []
        if self.band:
            top, bottom = _edges(self.band, grid)
            end = grid.top + grid.height * len(rows)
            text = shorten(self.band.label, end - HEAD, FONT, bold=True)
            half = text_width(text, FONT, bold=True) / 2
            middle = max(HEAD + half, min((top + bottom) / 2, end - half))
            shapes.append(Path(rectangle(_GUTTER - 4, top, grid.left - 3, bottom), "band"))
            shapes.append(Upright(FONT, round(middle, 2), text, "band-label", "middle"))
        for index, text in enumerate(rows):
            chosen = self.band is not None and self.band.first <= index <= self.band.last
            y = grid.top + (index + 0.5) * grid.height + FONT * 0.35
            css = "tick chosen" if chosen else "tick"
            shapes.append(Words(grid.left - _LABEL_GAP, round(y, 2), text, css, "end"))
        return shapes

    def _cells(self) -> tuple[Path, ...]:
        cells = []
        write, paint = self._writer(), self.painter()
        rows, columns = ([shorten(shown(text), 160, FONT) for text in side] for side in (self.rows, self.columns))
        for row, (label, values) in enumerate(zip(rows, self.values, strict=True)):
            for column, value in enumerate(values):
                if value is None:
                    cells.append(Path(f"M{column}.4 {row}.5h.2", "missing"))
                else:
                    # The column's text comes last: written from right to left, it would take along what follows it.
                    tip = f"{write(value)} at {label}, {columns[column]}"
                    cells.append(Path(f"M{column} {row}h1v1h-1", paint(value), tip))
        return tuple(cells)

    def _outline(self, grid: Grid) -> list[Shape]:
        if not self.band:
            return []
        top, bottom = _edges(self.band, grid)
        return [Path(rectangle(grid.left - 1.5, top, grid.left + grid.width * len(self.columns) + 0.5, bottom), "rim")]

    def _writer(self) -> Callable[[float], str]:
        return number_writer(self._known, self.value.unit, signed=self.diverging)

    def legend(self) -> tuple[LegendItem, ...]:
        """The scale of colours with its marks, and the sign of a cell without a value."""
        items = [LegendItem(self.value.title, colour_bar(self.ends, self.value, self.painter()))]
        if any(value is None for row in self.values for value in row):
            items.append(LegendItem("no value", Drawing(12, 14, (Path("M3 7h6", "missing"),))))
        return tuple(items)

    def describe(self) -> str:
        """The picture in words."""
        parts = [
            f"Heat map of {self.value.title}: {len(self.rows)} rows ({self.y.title}) "
            f"by {len(self.columns)} columns ({self.x.title})."
        ]
        cells = [
            (value, f"{self.rows[row]}, {shown(self.columns[column])}")
            for row, values in enumerate(self.values)
            for column, value in enumerate(values)
            if value is not None
        ]
        if cells:
            write = self._writer()
            (low, lowest), (high, highest) = min(cells, key=itemgetter(0)), max(cells, key=itemgetter(0))
            parts.append(f"Lowest {write(low)} at {lowest}; highest {write(high)} at {highest}.")
        if self.band:
            parts.append(
                f"Highlighted: {self.band.label}, {self.rows[self.band.first]} to {self.rows[self.band.last]}."
            )
        return " ".join(parts)

    def numbers(self) -> Table:
        """What was drawn, row by row."""
        write = self._writer()
        rows = [
            [label, *(None if value is None else write(value) for value in values)]
            for label, values in zip(self.rows, self.values, strict=True)
        ]
        header = [self.y.title, *map(shown, self.columns)]
        highlighted = range(self.band.first, self.band.last + 1) if self.band else ()
        return Table(f"{self.caption} {self.value.title}.", header, rows, highlighted)


def _edges(band: Band, grid: Grid) -> tuple[float, float]:
    """Upper and lower edge of the highlighted rows, px."""
    return grid.top + band.first * grid.height - 1.5, grid.top + (band.last + 1) * grid.height + 0.5


def _heads(columns: Sequence[str], grid: Grid, *, level: bool) -> list[Shape]:
    """The columns' labels above them, upright where they would not fit side by side."""
    y = grid.top - _LABEL_GAP
    centres = [grid.left + (index + 0.5) * grid.width for index in range(len(columns))]
    if level:
        return [Words(x, y, text, "tick", "middle") for x, text in zip(centres, columns, strict=True)]
    return [Upright(round(x + FONT * 0.35, 2), y, text, "tick") for x, text in zip(centres, columns, strict=True)]
