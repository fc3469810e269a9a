"""Tables: numbers to the right, intervals beside their value, a row or two that stand out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from safetylayers.records import Difference, Estimate, Rate
from safetylayers.report.checks import finite, require
from safetylayers.report.numbers import Measure, format_number

NOTHING = "\N{EN DASH}"

Cell = str | int | float | Measure | Rate | Estimate | Difference | None
"""Text, a number, a number with its interval, or nothing."""


class ShownCell(NamedTuple):
    """A cell as it is printed."""

    text: str
    interval: str
    numeric: bool


@dataclass(frozen=True)
class Table:
    """A table whose first column names the rows."""

    caption: str
    header: Sequence[str]
    """[columns]."""
    rows: Sequence[Sequence[Cell]]
    """[rows][columns]."""
    highlighted: Collection[int] = ()
    """Indices of rows that stand out."""
    note: str = ""

    def __post_init__(self) -> None:
        require(bool(self.header), f"Table {self.caption!r} has no columns.")
        for index, row in enumerate(self.rows):
            require(
                len(row) == len(self.header),
                f"Table {self.caption!r}: row {index} has {len(row)} cells, the header {len(self.header)}.",
            )
            for cell in row:
                if isinstance(cell, int | float):
                    finite([cell], f"Table {self.caption!r}, row {index}")
        require(
            all(0 <= index < len(self.rows) for index in self.highlighted),
            f"Table {self.caption!r} has {len(self.rows)} rows; it cannot highlight {sorted(self.highlighted)}.",
        )

    @property
    def body(self) -> list[list[ShownCell]]:
        """The rows as they are printed."""
        return [list(map(show, row)) for row in self.rows]

    @property
    def numeric(self) -> list[bool]:
        """Whether each column holds numbers only, and so is set to the right; the first names the rows and never is."""
        columns = [[show(row[index]) for row in self.rows] for index in range(1, len(self.header))]
        return [False, *(bool(column) and all(cell.numeric for cell in column) for column in columns)]


def show(cell: Cell) -> ShownCell:
    """A cell as it is printed; a dash for nothing."""
    if cell is None:
        return ShownCell(NOTHING, "", numeric=True)
    if isinstance(cell, str):
        return ShownCell(cell, "", numeric=_is_number(cell))
    if isinstance(cell, int | float):
        return ShownCell(format_number(cell), "", numeric=True)
    measure = cell if isinstance(cell, Measure) else Measure.of(cell)
    return ShownCell(measure.text, measure.interval_text, numeric=True)


def _is_number(text: str) -> bool:
    """Whether text begins as a number does: "12", "3.1 ± 0.2", "+5 %"."""
    return text.lstrip("+-\N{MINUS SIGN}")[:1].isdigit()
