"""Numbers as a reader meets them: with their interval, their unit, and no more digits than they deserve."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from safetylayers.records import Difference, Estimate, Rate
from safetylayers.report.checks import finite, require

MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Measure:
    """A measured value and, where it is known, its 95 % interval."""

    value: float
    low: float | None = None
    high: float | None = None
    unit: str = ""
    """Printed after the value. With "%" or "points", value and interval are fractions of 1 and shown times 100."""
    signed: bool = False
    """Whether a positive value is printed with its plus sign, as a difference is."""

    def __post_init__(self) -> None:
        require((self.low is None) == (self.high is None), "An interval needs both ends: low and high.")
        finite([self.value, *self.ends], "A measure")
        require(not self.ends or self.ends[0] <= self.ends[1], f"An interval runs from low to high, not {self.ends}.")

    @property
    def ends(self) -> tuple[float, ...]:
        """(low, high), or () where there is no interval."""
        return () if self.low is None or self.high is None else (self.low, self.high)

    @classmethod
    def of(cls, result: Rate | Estimate | Difference | float, unit: str = "") -> Measure:
        """From a record of floor 0. A `Rate` is shown in percent, a `Difference` with its sign."""
        if isinstance(result, Rate):
            return cls(result.value, *result.interval, unit="%")
        if isinstance(result, Estimate):
            return cls(result.mean, result.low, result.high, unit=unit)
        if isinstance(result, Difference):
            return cls(result.mean, result.low, result.high, unit=unit, signed=True)
        return cls(result, unit=unit)

    @property
    def text(self) -> str:
        """Value and unit: "5.8 %"."""
        return f"{self._shown(self.value)}{self.suffix}"

    @property
    def interval_text(self) -> str:
        """The interval without its unit: "[3.9, 8.4]", or nothing."""
        if not self.ends:
            return ""
        low, high = map(self._shown, self.ends)
        return f"[{low}, {high}]"

    def _shown(self, number: float) -> str:
        """A number with as many decimals as the greatest of the three deserves."""
        decimals = useful_decimals([self.value, *self.ends], self.unit)
        return format_number(number, self.unit, signed=self.signed, decimals=decimals)

    @property
    def full_text(self) -> str:
        """Value, unit and interval: "5.8 % [3.9, 8.4]"."""
        return f"{self.text} {self.interval_text}".strip()

    @property
    def suffix(self) -> str:
        """The unit as it follows a number; a degree sign stands close."""
        return self.unit if self.unit in ("", "°") else f"\N{NO-BREAK SPACE}{self.unit}"


@dataclass(frozen=True)
class Axis:
    """What an axis shows."""

    label: str
    unit: str = ""
    """With "%" or "points", the values are fractions of 1 and shown times 100."""
    low: float | None = None
    """Where the axis begins; by itself, a round number below the data."""
    high: float | None = None
    """Where the axis ends; by itself, a round number above the data."""

    @property
    def title(self) -> str:
        """Label and unit: "Harmful rate (%)"."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def factor(self) -> float:
        """By what a value is multiplied to be shown."""
        return unit_factor(self.unit)

    def text(self, value: float) -> str:
        """The value and its unit, as in a tip or a label."""
        return Measure(value, unit=self.unit).text


def unit_factor(unit: str) -> float:
    """By what a value of this unit is multiplied to be shown: shares are given as fractions of 1."""
    return 100.0 if unit in ("%", "points") else 1.0


def format_number(value: float, unit: str = "", *, signed: bool = False, decimals: int | None = None) -> str:
    """A number without its unit, with the decimals given or else those it deserves."""
    digits = useful_decimals([value], unit) if decimals is None else decimals
    return typographic(f"{value * unit_factor(unit):,.{digits}f}", signed=signed)


def useful_decimals(values: Iterable[float], unit: str = "") -> int:
    """One for shares, none for whole numbers, else so many that the greatest shows three or four digits."""
    sizes = [abs(value) for value in values]
    if unit_factor(unit) != 1:
        return 1
    if all(size.is_integer() for size in map(float, sizes)):
        return 0
    return next((digits for digits, limit in ((0, 1000), (1, 100), (2, 1), (3, 0.01)) if max(sizes) >= limit), 5)


def typographic(text: str, *, signed: bool = False) -> str:
    """A formatted number with a true minus sign, without the sign of a rounded zero."""
    bare = text.lstrip("-")
    if not bare.strip("0.,"):
        return bare
    if text.startswith("-"):
        return MINUS + bare
    return f"+{bare}" if signed else bare
