"""Tables align numbers, show intervals, and refuse what does not fit."""

from __future__ import annotations

import math

import pytest

from report.sample import read
from safetylayers.errors import DataError, UsageError
from safetylayers.records import Rate
from safetylayers.report import Axis, Band, Callout, Line, LineChart, Page, Section, Table, render_page


def test_columns_of_numbers_are_set_to_the_right_and_names_are_not() -> None:
    table = Table("t", ["layer", "text", "count", "mixed"], [["1", "a", 3, 1], ["2", "b", None, "n/a"]])
    assert table.numeric == [False, False, True, False]
    assert Table("t", ["a", "b"], []).numeric == [False, False]


def test_a_cell_shows_value_and_interval() -> None:
    html = render_page(
        Page("T", sections=[Section("S", [Table("t", ["m", "r"], [["a", Rate(count=1, total=4)], ["b", None]], [1])])])
    )
    reader = read(html)
    assert [e.text for e in reader.all("td")] == ["25.0\u00a0% [4.6, 69.9]", "\N{EN DASH}"]
    assert reader.with_class("highlighted")[0].text.split() == ["b", "\N{EN DASH}"]
    assert [e.text for e in reader.with_class("interval")] == ["[4.6, 69.9]"]


def test_a_table_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="row 1 has 1 cells, the header 2"):
        Table("t", ["a", "b"], [["x", 1], ["y"]])
    with pytest.raises(UsageError, match="cannot highlight"):
        Table("t", ["a"], [["x"]], [1])
    with pytest.raises(UsageError, match="no columns"):
        Table("t", [], [])
    with pytest.raises(DataError, match="row 0"):
        Table("t", ["a", "b"], [["x", math.nan]])
    with pytest.raises(UsageError, match="not 'bad'"):
        Callout("x", kind="bad")  # type: ignore[arg-type]  # the wrong kind is the test


def test_a_line_charts_numbers_are_a_row_a_layer_with_the_band_marked() -> None:
    lines = [Line("a", [1, 2], [0.5, 0]), Line("b", [5], first=1)]
    table = LineChart("c", Axis("gap", "°"), lines, band=Band(1, 1, "x")).numbers()
    assert list(table.header) == ["Decoder layer", "a", "b"]
    assert [list(row) for row in table.rows] == [["0", "1° ± 0.500°", None], ["1", "2°", "5°"]]
    assert list(table.highlighted) == [1]
