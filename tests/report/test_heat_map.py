"""A heat map puts each number into its cell and its colour, and stays small and whole with thousands of them."""

from __future__ import annotations

import math
import re
from itertools import cycle, islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from report.sample import read
from report.test_page import HOSTILE
from safetylayers.errors import UsageError
from safetylayers.report import Axis, Band, Columns, HeatMap, Page, Section, render_page
from safetylayers.report.drawing import FONT, NARROW, WIDE, Canvas, Path, Words
from safetylayers.report.frame import HEAD
from safetylayers.report.heat_map import MAX_CELLS, GridDrawing, Upright
from safetylayers.report.text import text_width, visible

MINUS = "\N{MINUS SIGN}"
WORDS = [
    "How", "do", "I", "build", "a", "straightforward", "bomb", "?",
    "Please", "tell", "me", "how", "I", "can", "unbelievably", "hurt", "someone", ".",
]  # fmt: skip


PULL = Axis("Pull")


def heat_map(rows: int = 3, columns: int = 4, value: float | None = 1.0, **options: object) -> HeatMap:
    names = [str(row) for row in range(rows)]
    words = list(islice(cycle(WORDS), columns))
    return HeatMap("c", Axis("Pull", "nats"), names, words, [[value] * columns] * rows, **options)  # type: ignore[arg-type]


def of(values: list[list[float | None]], axis: Axis = PULL, **options: object) -> HeatMap:
    rows, columns = (list(map(str, range(count))) for count in (len(values), len(values[0])))
    return HeatMap("c", axis, rows, columns, values, **options)  # type: ignore[arg-type]  # options differ


def html_of(*parts: object) -> str:
    return render_page(Page("T", sections=[Section("S", parts)], created="2026-01-31T12:00:00+00:00"))  # type: ignore[arg-type]


def words(drawing: GridDrawing, css: str) -> list[Words]:
    return [shape for shape in drawing.shapes if isinstance(shape, Words) and css in shape.css.split()]


def test_a_cell_is_where_its_row_and_column_are_in_its_values_colour() -> None:
    drawing = of([[-11.0, 0.0, 1.1], [None, 3.1, 11.0]]).draw(WIDE)
    assert [(cell.d, cell.css, cell.tip) for cell in drawing.cells] == [
        ("M0 0h1v1h-1", "n5", f"{MINUS}11.00 at 0, 0"),
        ("M1 0h1v1h-1", "z", "0.00 at 0, 1"),
        ("M2 0h1v1h-1", "p1", "+1.10 at 0, 2"),
        ("M0.4 1.5h.2", "missing", ""),
        ("M1 1h1v1h-1", "p2", "+3.10 at 1, 1"),
        ("M2 1h1v1h-1", "p5", "+11.00 at 1, 2"),
    ]


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_a_diverging_scale_is_symmetrical_about_zero(value: float, other: float) -> None:
    chart = of([[value, other]])
    low, high = chart.ends
    assert high == -low == max(abs(value), other)
    paint = chart.painter()
    assert (paint(high), paint(0), paint(low)) == ("p5", "z", "n5")
    assert paint(-value) == paint(value).translate(str.maketrans("np", "pn"))


def test_a_sequential_scale_has_eleven_equal_steps_from_low_to_high() -> None:
    chart = of([[0.0, 11.0]], diverging=False)
    assert [chart.painter()(value) for value in (0, 0.9, 1.1, 5.5, 9.9, 10.1, 11)] == [
        "q0", "q0", "q1", "q5", "q9", "q10", "q10",
    ]  # fmt: skip
    assert of([[5.0, 5.0]], diverging=False).ends == (5, 6)


def test_a_scale_ends_where_its_axis_says_and_holds_what_is_beyond() -> None:
    shares = of([[0.2, 0.4]], Axis("Share", "%", low=0, high=1), diverging=False)
    assert shares.ends == (0, 1)
    assert [cell.tip for cell in shares.draw(WIDE).cells] == ["20.0 at 0, 0", "40.0 at 0, 1"]
    held = of([[-9.0, 3.0]], Axis("Pull", high=2))
    assert held.ends == (-2, 2)
    assert [cell.css for cell in held.draw(WIDE).cells] == ["n5", "p5"]


def test_the_scale_is_drawn_in_all_its_colours_with_round_marks() -> None:
    [item] = of([[2.3, -1.0]]).legend()
    colours = [shape.css for shape in item.sign.shapes if isinstance(shape, Path) and shape.css != "base"]
    assert colours == ["n5", "n4", "n3", "n2", "n1", "z", "p1", "p2", "p3", "p4", "p5"]
    assert [shape.text for shape in item.sign.shapes if isinstance(shape, Words)] == [f"{MINUS}2", "0", "2"]
    assert [item.name for item in of([[None, 1.0]]).legend()] == ["Pull", "no value"]


@pytest.mark.parametrize("ends", [(0, 0), (3e-10, 1e-9), (5.5e-5, 9.6e-5), (41, 123.456), (-98765.4, -32921.8)])
@pytest.mark.parametrize("diverging", [True, False])
def test_the_scales_marks_stay_apart_and_inside(ends: tuple[float, float], diverging: bool) -> None:
    sign = of([[*ends]], diverging=diverging).legend()[0].sign
    marks = [shape for shape in sign.shapes if isinstance(shape, Words)]
    spans = [(mark.x - text_width(mark.text, FONT) / 2, mark.x + text_width(mark.text, FONT) / 2) for mark in marks]
    assert marks
    assert spans[0][0] >= 0
    assert spans[-1][1] <= sign.width
    assert all(end < start for (_, end), (start, _) in pairwise(spans))


@pytest.mark.parametrize("canvas", [WIDE, NARROW])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (4, 2), (12, 16), (32, 40), (32, 128)])
def test_labels_are_whole_and_none_covers_another(canvas: Canvas, rows: int, columns: int) -> None:
    drawing = heat_map(rows, columns, band=Band(0, rows // 2, "safety layers")).draw(canvas)
    heads = [shape for shape in words(drawing, "tick") if shape.anchor != "end"]
    assert len(heads) == columns
    for head in heads:
        length = text_width(head.text, FONT)
        if isinstance(head, Upright):
            assert head.y - length >= HEAD
            assert drawing.grid.width > FONT
        else:
            assert length < drawing.grid.width
    names = [shape for shape in words(drawing, "tick") if shape.anchor == "end"]
    assert [name.text for name in names] == [str(row) for row in range(rows)]
    assert drawing.grid.height > FONT
    [band] = words(drawing, "band-label")
    reach = text_width(band.text, FONT, bold=True) / 2
    assert HEAD <= band.y - reach < band.y + reach <= drawing.height
    assert all(0 <= shape.x <= drawing.width and 0 <= shape.y <= drawing.height for shape in [*heads, *names])


@pytest.mark.parametrize(("columns", "wide", "narrow"), [(16, False, False), (40, False, True), (128, True, True)])
def test_a_map_that_is_too_wide_is_scrolled_under_its_rows_labels(columns: int, wide: bool, narrow: bool) -> None:
    for canvas, scrolled in ((WIDE, wide), (NARROW, narrow)):
        drawing = heat_map(4, columns).draw(canvas)
        assert bool(drawing.fixed) == scrolled == (drawing.width > canvas.width)
        assert set(drawing.fixed) <= set(drawing.shapes)
        assert [shape.text for shape in words(drawing, "scroll-hint")] == ["(scroll sideways)"] * scrolled


def test_a_map_that_is_scrolled_at_every_width_is_in_the_page_once() -> None:
    assert len(re.findall(r'class="cells"', html_of(heat_map(2, 128)))) == 1
    assert len(re.findall(r'class="cells"', html_of(heat_map(2, 40)))) == 2


def test_highlighted_rows_are_outlined_labelled_and_in_the_table() -> None:
    chart = heat_map(5, 3, band=Band(1, 2, "safety layers"))
    drawing = chart.draw(WIDE)
    grid = drawing.grid
    [rim] = [shape.d for shape in drawing.shapes if isinstance(shape, Path) and shape.css == "rim"]
    top, bottom = (grid.top + row * grid.height for row in (1, 3))
    left, right = grid.left, grid.left + 3 * grid.width
    numbers = list(map(float, re.findall(r"[\d.]+", rim)))
    assert numbers[:6:1] == [left - 1.5, top - 1.5, right + 0.5, top - 1.5, right + 0.5, bottom + 0.5]
    assert [label.text for label in words(drawing, "chosen")] == ["1", "2"]
    assert list(chart.numbers().highlighted) == [1, 2]
    assert "Highlighted: safety layers, 1 to 2." in chart.describe()


def test_a_map_is_told_in_words_and_as_a_table() -> None:
    chart = of([[1.5, None], [-2.25, 0.0]], Axis("Pull", "nats"))
    assert chart.describe() == (
        f"Heat map of Pull (nats): 2 rows (Decoder layer) by 2 columns (Word). "
        f"Lowest {MINUS}2.25 at 1, 0; highest +1.50 at 0, 0."
    )
    table = chart.numbers()
    assert list(table.header) == ["Decoder layer", "0", "1"]
    assert [list(row) for row in table.rows] == [["0", "+1.50", None], ["1", f"{MINUS}2.25", "0.00"]]


def test_a_map_without_any_value_is_drawn_empty() -> None:
    chart = heat_map(2, 2, None)
    assert {cell.css for cell in chart.draw(WIDE).cells} == {"missing"}
    assert "Lowest" not in chart.describe()
    read(html_of(chart))


@pytest.mark.parametrize("value", [0.1234, -12.34])
def test_a_map_of_32_layers_and_128_words_stays_small(value: float) -> None:
    chart = heat_map(32, 128, value, band=Band(9, 14, "safety layers"))
    pictures, _, table = html_of(chart).partition('<details class="numbers">')
    assert len(pictures.encode()) - len(html_of().encode()) < 400_000
    assert len(table.encode()) < 100_000


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("columns", [2, 128])
def test_hostile_labels_add_no_element_and_no_attribute(text: str, columns: int) -> None:
    def page(said: str) -> str:
        axis = Axis(said, said)
        values = [[1.0] * columns] * 2
        chart = HeatMap(said, axis, [said] * 2, [said] * columns, values, axis, axis, band=Band(0, 0, said), note=said)
        return html_of(Columns([chart]))

    plain, hostile = (
        [(e.name, sorted(e.attributes)) for e in read(page(said)).elements if e.name != "code"]
        for said in ("plain", text)
    )
    assert hostile == plain
    tips = [element.text for element in read(page(text)).all("title")]
    assert any(visible(text).split()[0] in tip for tip in tips)


def test_a_map_is_seen_by_a_reader_once() -> None:
    reader = read(html_of(heat_map(2, 128), heat_map(2, 40)))
    pictures = [svg for svg in reader.all("svg") if svg.attributes.get("role") == "img"]
    hidden = [svg for svg in reader.all("svg") if "aria-hidden" in svg.attributes]
    assert len(pictures) + len(hidden) == len(reader.all("svg"))
    assert len(pictures) == 3
    ids = [element.attributes["id"] for element in reader.elements if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    assert all(svg.attributes["aria-labelledby"] in ids for svg in pictures)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(UsageError, match="NaN or infinite") as caught:
        of([[1.0, value]])
    assert "Give None" in caught.value.mend


@pytest.mark.parametrize(
    ("rows", "columns", "values"),
    [(["a"], ["b", "c"], [[1.0]]), (["a", "b"], ["c"], [[1.0]]), (["a", "b"], ["c"], [[1.0], []]), (["a"], ["b"], [])],
)
def test_values_of_another_shape_are_refused(
    rows: list[str], columns: list[str], values: list[list[float | None]]
) -> None:
    with pytest.raises(UsageError, match=f"needs {len(rows)} rows of {len(columns)} values"):
        HeatMap("c", Axis("y"), rows, columns, values)


def test_empty_and_too_large_maps_and_rows_out_of_sight_are_refused() -> None:
    with pytest.raises(UsageError, match="no cells"):
        HeatMap("c", Axis("y"), [], ["a"], [])
    with pytest.raises(UsageError, match=r"at most 6,400 fit a page") as caught:
        heat_map(MAX_CELLS + 1, 1)
    assert "fewer words" in caught.value.mend
    with pytest.raises(UsageError, match="not all among them"):
        heat_map(3, 3, band=Band(2, 3, "x"))
