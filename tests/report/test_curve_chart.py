"""A curve goes through its points in their order, its band follows it back, and its ticks and table can be read."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from report.test_charts import paths, words
from safetylayers.errors import DataError, UsageError
from safetylayers.report import Axis, Curve, CurveChart, Line, LineChart
from safetylayers.report.drawing import FONT, NARROW, WIDE, Canvas, Drawing, Path, Words
from safetylayers.report.labels import Box
from safetylayers.report.text import text_width

KL = Axis("KL divergence", "nats")
REWARD = Axis("Reward")
CANVASES = (WIDE, NARROW)


def chart(*curves: Curve, x: Axis = KL, y: Axis = REWARD, zero_line: bool = False) -> CurveChart:
    return CurveChart("c", x, y, curves, zero_line)


def points(d: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (pair.split() for pair in d[1:].rstrip("Z").split("L"))]


def x_ticks(drawing: Drawing) -> list[Words]:
    return [s for s in drawing.shapes if isinstance(s, Words) and s.css == "tick" and s.anchor == "middle"]


def tips(drawing: Drawing) -> list[str]:
    return [s.tip for s in drawing.shapes if isinstance(s, Path) and s.css.startswith("mark")]


def inside(place: tuple[float, float], corners: list[tuple[float, float]]) -> int:
    """How often the outline winds round the place."""
    x, y = place
    winds = 0
    for (x1, y1), (x2, y2) in pairwise([*corners, corners[0]]):
        if (y1 <= y) != (y2 <= y) and x1 + (y - y1) / (y2 - y1) * (x2 - x1) > x:
            winds += 1 if y2 > y1 else -1
    return winds


def test_a_curve_goes_through_its_points_at_their_own_x_and_its_band_round_them() -> None:
    curve = Curve("a", [0, 1, 4], [0, 1, 0], [0, 0.5, 0])
    drawing = chart(curve, y=Axis("y", low=0, high=2)).draw(Canvas(800, 400))
    [line] = paths(drawing, "line s0")
    places = points(line)
    top, bottom = 30.0, 354.0  # head 26 + 4; 400 - foot 46
    assert [y for _, y in places] == [bottom, (top + bottom) / 2, top + (bottom - top)]
    first, second, third = (x for x, _ in places)
    assert third - first == pytest.approx(4 * (second - first), abs=0.03)
    [area] = paths(drawing, "area s0")
    quarter = (bottom - top) / 4
    assert points(area) == [
        places[0], (second, places[1][1] - quarter), places[2],
        places[2], (second, places[1][1] + quarter), places[0],
    ]  # fmt: skip
    assert len(paths(drawing, "mark s0")) == 3


def test_points_are_joined_in_the_order_they_are_given() -> None:
    [line] = paths(chart(Curve("a", [0, 3, 1, 2], [0, 1, 2, 3])).draw(WIDE), "line s0")
    xs = [x for x, _ in points(line)]
    assert sorted(range(4), key=xs.__getitem__) == [0, 2, 3, 1]


@pytest.mark.parametrize("x", [[0, 4, 1, 3], [4, 0, 3, 1], [0, 2, 2, 4], [3, 2, 1, 0]])
def test_a_band_that_goes_back_over_itself_has_no_hole(x: list[float]) -> None:
    drawing = chart(Curve("a", x, [1, 1, 1, 1], [1, 1, 1, 1])).draw(WIDE)
    [line], [area] = paths(drawing, "line s0"), paths(drawing, "area s0")
    pieces = [points(f"M{piece}") for piece in area.split("M")[1:]]
    for (x1, y1), (x2, _) in pairwise(points(line)):
        if x1 != x2:
            for share in (0.1, 0.5, 0.9):
                place = (x1 + share * (x2 - x1), y1 - 3)
                assert sum(inside(place, piece) for piece in pieces) != 0


def test_a_single_points_deviation_is_a_whisker() -> None:
    drawing = chart(Curve("a", [2], [1], [0.5]), Curve("b", [0, 1], [0, 2])).draw(WIDE)
    assert len(paths(drawing, "cross s0")) == 1
    assert not paths(drawing, "area")


def test_zero_is_on_the_axis_where_it_is_asked_for() -> None:
    curve = Curve("a", [5, 6], [5, 6])
    assert len(paths(chart(curve, zero_line=True).draw(WIDE), "zero")) == 1
    assert "0" in words(chart(curve, zero_line=True).draw(WIDE), "tick")[:3]
    assert not paths(chart(curve).draw(WIDE), "zero")


@pytest.mark.parametrize("canvas", CANVASES)
def test_rounds_and_labels_are_marked_by_whole_numbers(canvas: Canvas) -> None:
    drawing = chart(Curve("a", [1, 2, 3], [0, 1, 2])).draw(canvas)
    assert [tick.text for tick in x_ticks(drawing)] == ["1", "2", "3"]
    assert [tick.text for tick in x_ticks(chart(Curve("a", [5], [1])).draw(canvas))] == ["4", "5", "6"]


@settings(max_examples=60, deadline=None)
@given(
    st.floats(-1, 1).map(lambda value: round(value, 3)), st.integers(-4, 9), st.sampled_from(CANVASES), st.booleans()
)
def test_x_labels_neither_meet_nor_leave_the_picture(start: float, power: int, canvas: Canvas, shares: bool) -> None:
    xs = [start * 10**power, (start + 0.5) * 10**power, (start + 1) * 10**power]
    ticks = x_ticks(chart(Curve("a", xs, [0, 1, 2]), x=Axis("x", "%" if shares else "")).draw(canvas))
    widths = [text_width(tick.text, FONT) for tick in ticks]
    boxes = [Box(tick.x - width / 2, tick.y, width, FONT) for tick, width in zip(ticks, widths, strict=True)]
    assert boxes
    assert not any(one.overlaps(other, 2) for one, other in combinations(boxes, 2))
    assert all(box.right <= canvas.width + 0.01 for box in boxes)


def test_a_wide_range_keeps_its_ticks_apart_and_every_point_in_the_plot() -> None:
    curve = Curve("a", [10.0**k for k in range(7)], [10.0**-k for k in range(7)])
    for canvas in CANVASES:
        drawing = chart(curve).draw(canvas)
        assert [tick.text for tick in x_ticks(drawing)][-1] == "1,000,000"
        [line] = paths(drawing, "line s0")
        assert all(0 < x < canvas.width and 0 < y < canvas.height for x, y in points(line))


def test_marks_tell_both_values_and_stay_few() -> None:
    curve = Curve("a", [0, 0.5], [0.25, 1])
    assert tips(chart(curve, y=Axis("y", "%")).draw(WIDE)) == [
        "a: 25.0\u00a0% at 0\u00a0nats",
        "a: 100.0\u00a0% at 0.500\u00a0nats",
    ]
    assert len(tips(chart(Curve("a", range(1000), range(1000))).draw(WIDE))) <= 24


def test_the_legend_is_the_line_charts() -> None:
    curves = [Curve("a", [0, 1], [1, 2], [0, 1]), Curve("b", [0, 1], [1, 2])]
    lines = [Line("a", [1, 2], [0, 1]), Line("b", [1, 2])]
    with_band = CurveChart("c", KL, Axis("y"), curves, deviation_label="± s").legend()
    assert with_band == LineChart("c", Axis("y"), lines, deviation_label="± s").legend()
    assert [item.name for item in with_band] == ["a", "b", "± s"]
    assert [item.name for item in chart(curves[1]).legend()] == ["b"]


def test_the_picture_is_told_in_words() -> None:
    assert chart(Curve("a", [0, 2, 1], [1, 3, 2])).describe() == (
        "Line chart of Reward against KL divergence (nats). a: 1 at 0\u00a0nats, 2 at 1\u00a0nats; "
        "lowest 1, highest 3 at 2\u00a0nats."
    )


def test_the_numbers_are_a_row_an_x_where_the_curves_share_it() -> None:
    rounds = Axis("Round")
    table = chart(Curve("a", [1, 2], [3, 4], [0.5, 0]), Curve("b", [1, 2], [5, 6]), x=rounds).numbers()
    assert list(table.header) == ["Round", "a", "b"]
    assert [list(row) for row in table.rows] == [["1", "3 ± 0.500", "5"], ["2", "4", "6"]]
    assert table.numeric == [False, True, True]


def test_the_numbers_are_a_row_a_point_where_each_curve_has_its_own_x() -> None:
    table = chart(Curve("a", [1, 0], [3, 4], [0.5, 0]), Curve("b", [2], [5])).numbers()
    assert list(table.header) == ["Curve", "KL divergence (nats)", "Reward"]
    assert [list(row) for row in table.rows] == [
        ["a", "1\u00a0nats", "3 ± 0.500"],
        ["a", "0\u00a0nats", "4"],
        ["b", "2\u00a0nats", "5"],
    ]


def test_a_curve_says_which_of_its_numbers_is_wrong() -> None:
    with pytest.raises(DataError, match="x of curve 'a': value 1 is nan"):
        Curve("a", [0, float("nan")], [1, 2])
    with pytest.raises(DataError, match="y of curve 'a': there is nothing to show"):
        Curve("a", [1], [])
    with pytest.raises(UsageError, match="2 values of x and 1 of y"):
        Curve("a", [0, 1], [1])
