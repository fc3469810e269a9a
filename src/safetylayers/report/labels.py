"""Where labels go so that none covers another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from safetylayers.report.drawing import FONT
from safetylayers.report.text import text_width

GAP = 3.0
"""Least distance between two labels, px."""
LEADER_FROM = 16.0
"""A label farther than this from its point is tied to it by a line, px."""


@dataclass(frozen=True)
class Box:
    """An upright rectangle, px; (x, y) is its upper left corner."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """Its right edge."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """Its lower edge."""
        return self.y + self.height

    def overlaps(self, other: Box, gap: float = 0.0) -> bool:
        """Whether the two come closer than `gap`."""
        return (
            self.x < other.right + gap
            and other.x < self.right + gap
            and self.y < other.bottom + gap
            and other.y < self.bottom + gap
        )

    def within(self, area: Box) -> bool:
        """Whether it lies wholly inside."""
        return (
            self.x >= area.x
            and self.y >= area.y
            and self.right <= area.right + 1e-9
            and self.bottom <= area.bottom + 1e-9
        )

    def nearest(self, x: float, y: float) -> tuple[float, float]:
        """Its point nearest to (x, y)."""
        return min(max(x, self.x), self.right), min(max(y, self.y), self.bottom)

    def distance(self, x: float, y: float) -> float:
        """From (x, y) to its nearest point; 0 inside."""
        return math.dist(self.nearest(x, y), (x, y))


def label_box(text: str, x: float, y: float, *, bold: bool = False) -> Box:
    """The room that a label needs, its upper left corner at (x, y)."""
    return Box(x, y, text_width(text, FONT, bold=bold), FONT * 1.25)


def _spots(anchor: tuple[float, float], width: float, height: float) -> list[Box]:
    """Boxes round a point, ring by ring, beginning at its right."""
    x, y = anchor
    found = []
    for reach in (9.0, 16.0, 28.0, 44.0, 64.0, 88.0, 116.0):
        for turn in range(16):
            cos, sin = math.cos(turn * math.pi / 8), math.sin(turn * math.pi / 8)
            centre_x, centre_y = x + cos * (reach + width / 2), y - sin * (reach + height / 2)
            found.append(Box(centre_x - width / 2, centre_y - height / 2, width, height))
    return found


def _cost(box: Box, own: int, anchors: Sequence[tuple[float, float]], obstacles: Sequence[Box]) -> float:
    """How bad a place is: far from its point, near another's, on a mark or a whisker."""
    x, y = anchors[own]
    away = max(box.distance(x, y), 10.0)
    aslant = 0.05 * abs(box.y + box.height / 2 - y)
    others = [box.distance(*anchor) for index, anchor in enumerate(anchors) if index != own]
    confusing = sum(12.0 for other in others if other < away + 4)
    covering = sum(18.0 for obstacle in obstacles if box.overlaps(obstacle, 1.0))
    marks = sum(60.0 for anchor in anchors if box.distance(*anchor) < 7)
    left = 1.5 if box.right < x else 0.0
    return away + aslant + confusing + covering + marks + left


def place_labels(
    anchors: Sequence[tuple[float, float]], widths: Sequence[float], area: Box, obstacles: Sequence[Box] = ()
) -> list[Box | None]:
    """A box for the label of each point: inside `area`, none over another; None where there is no room left.

    Greedy, the most crowded point first, then each label in turn may move to a better place while the others stay.
    """
    height = FONT * 1.25
    placed: list[Box | None] = [None] * len(anchors)
    crowded = sorted(range(len(anchors)), key=lambda i: _nearest_other(i, anchors))
    for _ in range(3):
        for index in crowded:
            taken = [box for other, box in enumerate(placed) if box is not None and other != index]
            free = [
                box
                for box in _spots(anchors[index], widths[index], height)
                if box.within(area) and not any(box.overlaps(other, GAP) for other in taken)
            ]
            placed[index] = min(free, key=lambda box: _cost(box, index, anchors, obstacles), default=None)
    return placed


def _nearest_other(index: int, anchors: Sequence[tuple[float, float]]) -> float:
    return min((math.dist(anchors[index], a) for i, a in enumerate(anchors) if i != index), default=math.inf)


def least_crowded(candidates: Sequence[Box], obstacles: Sequence[Box]) -> Box:
    """The candidate that covers the fewest obstacles; of equals, the first."""
    return min(candidates, key=lambda box: sum(box.overlaps(obstacle, 2.0) for obstacle in obstacles))


def stack_labels(
    centres: Sequence[float], widths: Sequence[float], left: float, right: float
) -> list[tuple[float, int]]:
    """For each label its left edge and its row (0 at the bottom), none over another in its row."""
    rows: list[list[tuple[float, float]]] = []
    places = []
    for centre, width in zip(centres, widths, strict=True):
        start = max(left, min(centre - width / 2, right - width))
        end = start + width
        row = next(
            (n for n, taken in enumerate(rows) if all(end + 2 * GAP <= a or b + 2 * GAP <= start for a, b in taken)),
            len(rows),
        )
        if row == len(rows):
            rows.append([])
        rows[row].append((start, end))
        places.append((start, row))
    return places
