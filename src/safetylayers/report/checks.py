"""Checks of what a caller hands over, so that a broken number ends in a sentence and not in a broken picture."""

from __future__ import annotations

import math
from collections.abc import Iterable

from safetylayers.errors import DataError, UsageError


def finite(values: Iterable[float], what: str) -> tuple[float, ...]:
    """The values as floats.

    Raises:
        DataError: there are none, or one is NaN or infinite.
    """
    numbers = tuple(map(float, values))
    if not numbers:
        raise DataError(f"{what}: there is nothing to show.", mend="Leave the chart out, or give it data.")
    for index, number in enumerate(numbers):
        if not math.isfinite(number):
            raise DataError(
                f"{what}: value {index} is {number}, which cannot be drawn.",
                mend="Find out why the measurement gave no number before reporting it.",
            )
    return numbers


def require(condition: bool, message: str, mend: str = "") -> None:
    """Raise UsageError unless the condition holds."""
    if not condition:
        raise UsageError(message, mend=mend)
