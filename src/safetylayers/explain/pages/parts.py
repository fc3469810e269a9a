"""What several parts of an explanation's page share."""

from __future__ import annotations

from collections.abc import Sequence

from safetylayers.explain.explanation import Explanation
from safetylayers.report import Band, Paragraph
from safetylayers.report.heat_map import MAX_CELLS
from safetylayers.report.numbers import format_number

UNIT = "nats"
TOWARDS, AWAY = "pushes towards refusal", "pushes towards an answer"
LONG = 300
"""Tokens. The page of a longer prompt shows its words by one method alone."""
NARROW = 52
"""Columns of a heat map that fit a wide screen."""
REST = Paragraph("The prompt is long: its tokens, and other methods' scores, are in the records alone.")


def band_of(found: Explanation) -> Band | None:
    """Return the safety layers as a chart shows them."""
    return Band(*found.safety_layers, "safety layers") if found.safety_layers else None


def signed(value: float, decimals: int = 1) -> str:
    """Return a number with its sign."""
    return format_number(value, signed=True, decimals=decimals)


def drawn(columns: int) -> int:
    """Return how often a heat map's cells are drawn: a narrow one, again for small screens."""
    return 2 if columns <= NARROW else 1


def strongest_columns(values: Sequence[Sequence[float]], room: int) -> list[int]:
    """Return the columns that a heat map has room for, in their order: those of the largest numbers.

    Args:
        values: of each row.
        room: so many cells may be drawn.
    """
    peaks = [max(map(abs, column)) for column in zip(*values, strict=True)]
    many = min(room, MAX_CELLS) // len(values)
    count = many if min(many, len(peaks)) > NARROW else many // 2
    return sorted(sorted(range(len(peaks)), key=lambda place: -peaks[place])[: max(1, count)])


def left_out(shown: Sequence[int], columns: int) -> str:
    """Return what has to be said where a heat map does not show all columns."""
    return f" The {len(shown)} strongest of {columns} are shown." if len(shown) < columns else ""
