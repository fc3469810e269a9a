"""What the line chart and the curve chart share: lines, marks at their points, bands round them, and their legend."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from safetylayers.report.checks import finite, require
from safetylayers.report.drawing import Canvas, Drawing, LegendItem, Path, Shape, mark, polyline
from safetylayers.report.frame import HEAD, Plot
from safetylayers.report.numbers import Axis
from safetylayers.report.scales import Scale, Ticks, make_ticks

MAX_LINES = 6
"""As many as there are colours; more lines in one chart are not read anyway."""
_MOST_MARKS = 24


def checked_deviation(kind: str, name: str, values: Sequence[float], deviation: Sequence[float]) -> tuple[float, ...]:
    """The deviations as floats, none where none was given.

    Raises:
        DataError: one is NaN or infinite.
        UsageError: there are not as many as values, or one is below 0.
    """
    if not len(deviation):
        return ()
    numbers = finite(deviation, f"Deviation of {kind.lower()} {name!r}")
    require(
        len(numbers) == len(values) and min(numbers) >= 0,
        f"{kind} {name!r} has {len(values)} values, so it needs as many deviations, none below 0.",
    )
    return numbers


def require_few(caption: str, count: int) -> None:
    """Raise UsageError where a chart has more lines than can be told apart."""
    require(
        count <= MAX_LINES,
        f"Chart {caption!r} has {count} lines; at most {MAX_LINES} can be told apart.",
        mend="Split it into two charts.",
    )


def value_ticks(values: Iterable[tuple[float, float]], axis: Axis, canvas: Canvas, *, zero: bool) -> Ticks:
    """The marks of the y axis, for (value, deviation) of every point; with `zero`, zero is on the axis."""
    ends = [value + sign * spread for value, spread in values for sign in (-1, 1)]
    if zero:
        ends.append(0.0)
    return make_ticks(min(ends), max(ends), axis, int((canvas.height - HEAD) // 55))


def zero_line(plot: Plot, up: Scale) -> Path:
    """The strong line at zero."""
    return Path(polyline([(plot.left, up(0)), (plot.right, up(0))]), "zero")


def line_shapes(points: Sequence[tuple[float, float]], tips: Sequence[str], index: int, canvas: Canvas) -> list[Shape]:
    """A line through the points, px, and marks at so many of them that they stay apart."""
    radius = 3.0 if canvas.narrow else 3.6
    every = -(-len(points) // _MOST_MARKS)
    marks = [
        mark(index, x, y, radius, tip)
        for offset, ((x, y), tip) in enumerate(zip(points, tips, strict=True))
        if offset % every == 0
    ]
    return [Path(polyline(points), f"line s{index}"), *marks]


def series_legend(names: Iterable[str], deviation_label: str) -> tuple[LegendItem, ...]:
    """Names and signs of the lines, and what the bands round them mean, where there are any."""
    items = [LegendItem(name, _sign(index)) for index, name in enumerate(names)]
    if deviation_label:
        items.append(LegendItem(deviation_label, Drawing(34, 14, (Path("M2 2h30v10h-30Z", "area neutral"),))))
    return tuple(items)


def _sign(index: int) -> Drawing:
    return Drawing(34, 14, (Path("M2 7H32", f"line s{index}"), mark(index, 17, 7, 3.6)))


def spread_text(axis: Axis, value: float, spread: float) -> str:
    """A value and its deviation, as a cell of the table shows them."""
    return f"{axis.text(value)} ± {axis.text(spread)}" if spread else axis.text(value)
