"""Charts put values where they belong, and refuse what cannot be drawn."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetylayers.errors import DataError, SafetyLayersError, UsageError
from safetylayers.records import Difference, Estimate, Rate
from safetylayers.report import (
    Axis,
    Band,
    Bar,
    Candidate,
    Curve,
    CurveChart,
    Dot,
    ForestChart,
    Line,
    LineChart,
    Marker,
    Measure,
    ScatterChart,
    SweepChart,
)
from safetylayers.report.drawing import NARROW, WIDE, Canvas, Drawing, Path, Words, mark, px, whisker
from safetylayers.report.numbers import format_number
from safetylayers.report.scales import Scale, layer_ticks, make_ticks


def paths(drawing: Drawing, css: str) -> list[str]:
    return [s.d for s in drawing.shapes if isinstance(s, Path) and set(css.split()) <= set(s.css.split())]


def words(drawing: Drawing, css: str) -> list[str]:
    return [s.text for s in drawing.shapes if isinstance(s, Words) and css in s.css.split()]


def test_a_scale_is_a_straight_line_held_at_its_ends() -> None:
    scale = Scale(0, 10, 100, 300)
    assert [scale(v) for v in (0, 2.5, 10, -1, 11)] == [100, 150, 300, 100, 300]


@pytest.mark.parametrize(
    ("low", "high", "axis", "labels"),
    [
        (0, 10, Axis(""), ("0", "2", "4", "6", "8", "10")),
        (-0.4, 0.4, Axis(""), ("\N{MINUS SIGN}0.4", "\N{MINUS SIGN}0.2", "0.0", "0.2", "0.4")),
        (0.013, 0.58, Axis("", "%"), ("0", "20", "40", "60")),
        (139, 283, Axis(""), ("150", "200", "250", "300")),
        (0.9, 0.95, Axis("", "%", high=1.0), ("90", "92", "94", "96", "98", "100")),
        (5, 5, Axis(""), ("4.5", "4.6", "4.7", "4.8", "4.9", "5.0", "5.1", "5.2", "5.3", "5.4", "5.5")),
    ],
)
def test_ticks_are_round(low: float, high: float, axis: Axis, labels: tuple[str, ...]) -> None:
    ticks = make_ticks(low, high, axis, 10 if low == high else 5)
    assert ticks.labels == labels


finite_numbers = st.floats(-1e6, 1e6, allow_nan=False)


@given(finite_numbers, finite_numbers, st.integers(2, 10))
def test_ticks_cover_the_data_in_rising_order_with_different_labels(a: float, b: float, count: int) -> None:
    low, high = sorted((round(a, 3), round(b, 3)))
    ticks = make_ticks(low, high, Axis(""), count)
    slack = 1e-6 * max(1, abs(low), abs(high))
    assert ticks.low <= low + slack
    assert ticks.high >= high - slack
    assert all(ticks.low - slack <= value <= ticks.high + slack for value in ticks.values)
    assert list(ticks.values) == sorted(set(ticks.values))
    assert len(set(ticks.labels)) == len(ticks.labels)
    assert 1 <= len(ticks.values) <= 2 * count + 2


def test_an_axis_of_shares_stays_between_0_and_100() -> None:
    ticks = make_ticks(0.004, 0.997, Axis("", "%"), 4)
    assert (ticks.low, ticks.high) == (0.0, 1.0)


def test_layers_are_marked_by_whole_numbers_that_fit() -> None:
    assert layer_ticks(0, 9, 0.05) == tuple(range(10))
    assert layer_ticks(0, 31, 0.1) == (0, 5, 10, 15, 20, 25, 30)
    assert layer_ticks(3, 3, 0.1) == (3,)


def test_a_line_goes_through_its_values_and_its_band_round_them() -> None:
    chart = LineChart("c", Axis("y", low=0, high=2), [Line("a", [0, 1, 2], [0, 0.5, 0], first=4)], Axis("x"))
    drawing = chart.draw(Canvas(800, 400))
    [line] = paths(drawing, "line s0")
    points = [tuple(map(float, pair.split())) for pair in line[1:].split("L")]
    top, bottom = 30.0, 354.0  # head 26 + 4; 400 - foot 46
    assert [y for _, y in points] == [bottom, (top + bottom) / 2, top]
    step = points[1][0] - points[0][0]
    assert points[2][0] - points[1][0] == pytest.approx(step, abs=0.011)
    assert points[2][0] + step / 2 == pytest.approx(788, abs=0.02)  # 800 - edge 12, half a layer beyond the last
    [area] = paths(drawing, "area s0")
    corners = [tuple(map(float, pair.split())) for pair in area[1:-1].split("L")]
    quarter = (bottom - top) / 4
    assert corners == [
        points[0], (points[1][0], points[1][1] - quarter), points[2],
        points[2], (points[1][0], points[1][1] + quarter), points[0],
    ]  # fmt: skip


def test_the_band_takes_in_its_first_and_last_layer_whole() -> None:
    chart = LineChart("c", Axis("y"), [Line("a", range(10))], band=Band(3, 5, "here"), markers=[Marker(3, "onset")])
    drawing = chart.draw(WIDE)
    [band] = paths(drawing, "band")
    xs = sorted({float(pair.split()[0]) for pair in band[1:-1].split("L")})
    [line] = paths(drawing, "line s0")
    points = [float(pair.split()[0]) for pair in line[1:].split("L")]
    assert xs == pytest.approx([(points[2] + points[3]) / 2, (points[5] + points[6]) / 2], abs=0.02)
    [marker] = paths(drawing, "marker")
    assert marker.startswith(f"M{px(points[3])} ")
    assert words(drawing, "band-label") == ["here"]
    assert words(drawing, "marker-label") == ["onset"]


def test_the_zero_line_is_on_the_axis_even_where_no_value_is() -> None:
    with_zero = LineChart("c", Axis("y"), [Line("a", [5, 6])], zero_line=True).draw(WIDE)
    assert len(paths(with_zero, "zero")) == 1
    assert "0" in words(with_zero, "tick")[:3]
    assert not paths(LineChart("c", Axis("y"), [Line("a", [5, 6])]).draw(WIDE), "zero")


def test_series_differ_in_shape_and_not_in_colour_only() -> None:
    assert len({mark(series, 0, 0, 4).d for series in range(6)}) == 6
    assert mark(0, 0, 0, 4).d == mark(6, 0, 0, 4).d
    assert mark(0, 0, 0, 4).css != mark(6, 0, 0, 4).css
    assert mark(1, 10, 20, 10).d == "M1 11L19 11L19 29L1 29Z"


def test_a_whisker_has_a_cap_at_each_end() -> None:
    assert whisker((5, 0), (5, 10)) == "M5 0L5 10M1 0L9 0M1 10L9 10"
    assert whisker((0, 5), (10, 5)) == "M0 5L10 5M0 1L0 9M10 1L10 9"


def test_a_sweep_marks_its_choice_and_names_it_even_among_many() -> None:
    candidates = [Candidate(f"[6, {last}]", Measure(100 + last, 90 + last, 110 + last)) for last in range(7, 31)]
    for canvas in (WIDE, NARROW):
        for chosen in (0, 7, 23):
            drawing = SweepChart("c", Axis("Refusals"), candidates, chosen, reference=100).draw(canvas)
            assert words(drawing, "chosen-label") == [f"{107 + chosen}", f"[6, {7 + chosen}]"]
            assert len(paths(drawing, "mark chosen")) == 1
            assert len(paths(drawing, "whisker")) == 24
            assert words(drawing, "reference-label") == ["unscaled: 100"]
    table = SweepChart("c", Axis("Refusals"), candidates, 7).numbers()
    assert list(table.highlighted) == [7]
    assert table.body[7][1][:2] == ("114", "[104, 124]")


def test_a_dot_of_a_scatter_chart_sits_at_its_values() -> None:
    corners = [Dot("a", Measure(0), Measure(0)), Dot("b", Measure(1), Measure(1)), Dot("c", Measure(0.5), Measure(0.5))]
    drawing = ScatterChart("c", Axis("x", "%", 0, 1), Axis("y", "%", 0, 1), corners, "bottom right").draw(WIDE)
    centres = []
    for shape, dot in zip((s for s in drawing.shapes if isinstance(s, Path) and "mark" in s.css), corners, strict=True):
        assert shape.tip == f"{dot.name}: x {dot.x.value * 100:.1f} %; y {dot.y.value * 100:.1f} %".replace(
            " %", "\u00a0%"
        )
        centres.append(shape.d)
    assert words(drawing, "better-label") == ["↘ better"]
    assert sorted(words(drawing, "dot-label")) == ["a", "b", "c"]
    middle = centres[2].split("L")[0][1:].split()
    ends = [centres[0].split("a")[0][1:].split(), centres[1].split("L")[0][1:].split()]
    assert float(ends[0][0]) < float(middle[0]) < float(ends[1][0])
    assert float(ends[0][1]) > float(middle[1]) > float(ends[1][1])


def test_a_forest_chart_grows_with_its_rows_and_draws_bars_from_zero() -> None:
    bars = [Bar("a", Measure(0.2, 0.1, 0.3)), Bar("b", Measure(0.4, 0.3, 0.5), True)]
    drawing = ForestChart("c", Axis("x", "%", 0, 1), bars, 0.1, "before").draw(WIDE)
    assert drawing.height == 26 + 2 * 34 + 46
    [plain], [chosen] = paths(drawing, "bar plain"), paths(drawing, "bar chosen")
    left = float(plain[1:].split()[0])
    widths = [float(d.split("L")[1].split()[0]) - left for d in (plain, chosen)]
    assert widths[1] == pytest.approx(2 * widths[0], abs=0.02)
    assert words(drawing, "row-value") == ["20.0\u00a0% [10.0, 30.0]", "40.0\u00a0% [30.0, 50.0]"]
    assert words(drawing, "reference-label") == ["before: 10.0\u00a0%"]


Build = Callable[[float], object]
CHARTS: dict[str, Build] = {
    "line": lambda v: LineChart("c", Axis("y"), [Line("a", [1, v])]),
    "deviation": lambda v: LineChart("c", Axis("y"), [Line("a", [1, 2], [0, v])]),
    "curve x": lambda v: Curve("a", [1, v], [1, 2]),
    "curve y": lambda v: Curve("a", [1, 2], [1, v]),
    "curve deviation": lambda v: Curve("a", [1, 2], [1, 2], [0, v]),
    "marker": lambda v: LineChart("c", Axis("y"), [Line("a", [1])], markers=[Marker(v, "m")]),
    "sweep": lambda v: SweepChart("c", Axis("y"), [Candidate("a", v)]),
    "sweep reference": lambda v: SweepChart("c", Axis("y"), [Candidate("a", 1)], reference=v),
    "scatter": lambda v: ScatterChart("c", Axis("x"), Axis("y"), [Dot("a", Measure(1), Measure(v))]),
    "interval": lambda v: Measure(0, -1, v),
    "forest reference": lambda v: ForestChart("c", Axis("x"), [Bar("a", Measure(1))], reference=v),
}


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", CHARTS)
def test_a_value_that_is_no_number_is_refused(name: str, value: float) -> None:
    with pytest.raises(DataError, match="cannot be drawn"):
        CHARTS[name](value)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Line("a", []),
        lambda: LineChart("c", Axis("y"), []),
        lambda: Curve("a", [], []),
        lambda: CurveChart("c", Axis("x"), Axis("y"), []),
        lambda: SweepChart("c", Axis("y"), []),
        lambda: ScatterChart("c", Axis("x"), Axis("y"), []),
        lambda: ForestChart("c", Axis("x"), []),
    ],
)
def test_nothing_to_show_is_refused(build: Callable[[], object]) -> None:
    with pytest.raises(DataError, match="nothing to show"):
        build()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Line("a", [1, 2], [1]), "needs as many deviations"),
        (lambda: Line("a", [1], [-1]), "none below 0"),
        (lambda: Band(3, 2, "b"), "first layer to its last"),
        (lambda: LineChart("c", Axis("y"), [Line(str(i), [1]) for i in range(7)]), "at most 6"),
        (lambda: Curve("a", [1, 2], [1, 2], [1]), "needs as many deviations"),
        (lambda: Curve("a", [1], [1], [-1]), "none below 0"),
        (lambda: CurveChart("c", Axis("x"), Axis("y"), [Curve(str(i), [1], [1]) for i in range(7)]), "at most 6"),
        (lambda: SweepChart("c", Axis("y"), [Candidate("a", 1)], chosen=1), "number 1 cannot be chosen"),
        (lambda: ScatterChart("c", Axis("x"), Axis("y"), [Dot("a", Measure(1), Measure(1))] * 13), "at most 12"),
        (lambda: Measure(1, low=0), "both ends"),
        (lambda: Measure(1, 2, 0), "from low to high"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_reason(build: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        build()
    assert isinstance(caught.value, SafetyLayersError)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0.0578, "%", "5.8"), (-0.00001, "%", "0.0"), (1000, "", "1,000"), (-3.14159, "", "\N{MINUS SIGN}3.14"),
     (0.4123, "", "0.412"), (0.00042, "", "0.00042"), (271.83, "", "271.8")],
)  # fmt: skip
def test_numbers_show_the_digits_they_deserve(value: float, unit: str, text: str) -> None:
    assert format_number(value, unit) == text


def test_a_measure_shows_its_interval_with_the_same_decimals() -> None:
    assert Measure.of(Rate(count=5, total=40)).full_text == "12.5\u00a0% [5.5, 26.1]"
    assert Measure.of(Estimate(mean=12.3, low=0.004, high=20, total=9)).full_text == "12.30 [0.00, 20.00]"
    moved = Measure.of(Difference(mean=-0.031, low=-0.05, high=0.012), "points")
    assert moved.full_text == "\N{MINUS SIGN}3.1\u00a0points [\N{MINUS SIGN}5.0, +1.2]"
    assert Measure.of(12.5, "°").full_text == "12.50°"
