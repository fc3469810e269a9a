"""No label covers another, whatever the data."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from safetylayers.report import Axis, Dot, Line, LineChart, Marker, Measure, ScatterChart
from safetylayers.report.drawing import FONT, NARROW, WIDE, Words
from safetylayers.report.labels import GAP, Box, place_labels, stack_labels
from safetylayers.report.text import shorten, text_width

AREA = Box(40, 30, 330, 230)
inside = st.tuples(st.floats(40, 370), st.floats(30, 260))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(inside, st.floats(5, 160)), min_size=1, max_size=12))
def test_placed_labels_lie_inside_and_apart(labels: list[tuple[tuple[float, float], float]]) -> None:
    boxes = [box for box in place_labels([a for a, _ in labels], [w for _, w in labels], AREA) if box is not None]
    assert all(box.within(AREA) for box in boxes)
    assert not any(a.overlaps(b, GAP - 0.001) for a, b in combinations(boxes, 2))


@settings(max_examples=40, deadline=None)
@given(st.lists(inside, min_size=1, max_size=7))
def test_a_few_short_labels_all_find_a_place(points: list[tuple[float, float]]) -> None:
    assert None not in place_labels(points, [45.0] * len(points), AREA)


def test_a_lone_label_stands_close_to_its_point() -> None:
    [box] = place_labels([(200, 150)], [60], AREA)
    assert box is not None
    assert box.x > 200
    assert box.distance(200, 150) < 12


def test_a_label_without_room_is_left_out_and_the_legend_still_names_it() -> None:
    assert place_labels([(200, 150)], [400], AREA) == [None]
    chart = ScatterChart("c", Axis("x"), Axis("y"), [Dot("w" * 200, Measure(1), Measure(1))])
    assert [item.name for item in chart.legend()] == ["w" * 200]


@given(
    st.lists(st.tuples(st.floats(0, 700), st.floats(5, 300)), min_size=1, max_size=8),
)
def test_stacked_labels_lie_inside_and_apart(labels: list[tuple[float, float]]) -> None:
    places = stack_labels([c for c, _ in labels], [w for _, w in labels], 0, 700)
    spans = [(left, left + width, row) for (left, row), (_, width) in zip(places, labels, strict=True)]
    assert all(left >= 0 and right <= 700 + 1e-9 for left, right, _ in spans)
    for (left, right, row), (other_left, other_right, other_row) in combinations(spans, 2):
        assert row != other_row or right <= other_left or other_right <= left


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 31), min_size=1, max_size=5), st.sampled_from([WIDE, NARROW]))
def test_the_labels_of_markers_do_not_cover_each_other(layers: list[int], canvas: object) -> None:
    markers = [Marker(layer, f"marker at {layer}") for layer in layers]
    drawing = LineChart("c", Axis("y"), [Line("a", range(32))], markers=markers).draw(canvas)  # type: ignore[arg-type]  # hypothesis widens it
    labels = [s for s in drawing.shapes if isinstance(s, Words) and s.css == "marker-label"]
    boxes = [Box(s.x, s.y, text_width(s.text, FONT), FONT) for s in labels]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))


@given(st.text(max_size=60), st.floats(40, 300))
def test_shortened_text_fits_on_one_line(text: str, width: float) -> None:
    short = shorten(text, width, FONT)
    assert "\n" not in short
    assert text_width(short, FONT) <= width + FONT


def test_short_text_is_left_alone() -> None:
    assert shorten("SPPFT  (layers\n6-12)", 300, FONT) == "SPPFT (layers 6-12)"
    assert shorten("a long name indeed", 60, FONT).endswith("…")
