"""From values to pixels: linear scales and round ticks."""

from __future__ import annotations

import math
from dataclasses import dataclass

from safetylayers.report.numbers import Axis, typographic


@dataclass(frozen=True)
class Scale:
    """A straight line from values [low, high] to pixels [start, end]. Values outside are held at the edge."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Where the value lies, in pixels."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 2)


@dataclass(frozen=True)
class Ticks:
    """An axis's extent and its marks."""

    low: float
    high: float
    values: tuple[float, ...]
    labels: tuple[str, ...]


def round_step(raw: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is at least `raw`."""
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))


def make_ticks(low: float, high: float, axis: Axis, count: int) -> Ticks:
    """About `count` round marks within an extent that covers [low, high]; the axis's own ends win over the data."""
    begin = low if axis.low is None else axis.low
    end = high if axis.high is None else axis.high
    if end <= begin:
        spread = max(abs(begin) * 0.1, 0.5 / axis.factor)
        begin, end = (begin - spread if axis.low is None else begin), begin + spread
    step = round_step((end - begin) / count)
    room = 0.04 * (end - begin)
    if axis.low is None:
        begin = max(-_reach(-begin, step, room), 0.0 if low >= 0 else -math.inf)
    if axis.high is None:
        end = min(_reach(end, step, room), 1.0 if axis.unit == "%" and end <= 1 else math.inf)
    first, last = math.ceil(begin / step - 1e-9), math.floor(end / step + 1e-9)
    values = tuple(number * step for number in range(first, last + 1))
    decimals = max(0, -math.floor(math.log10(step * axis.factor) + 1e-9))
    labels = tuple(typographic(f"{value * axis.factor:,.{decimals}f}") for value in values)
    return Ticks(begin, end, values, labels)


def _reach(end: float, step: float, room: float) -> float:
    """Where an axis ends: at the next round mark if that is near, else a little beyond the data."""
    mark = math.ceil(end / step - 1e-9) * step
    return mark if mark - end <= step / 2 else end + room


def layer_ticks(first: int, last: int, room: float) -> tuple[int, ...]:
    """Whole numbers from `first` to `last`, so few that they fit when each has `room` of 1 (the whole axis)."""
    step = max(1, round(round_step(max((last - first) * room, 1))))
    return tuple(range(math.ceil(first / step) * step, last + 1, step))
