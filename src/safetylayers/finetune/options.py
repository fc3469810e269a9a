"""Numbers that only some methods have."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import NamedTuple

from safetylayers.errors import UsageError
from safetylayers.finetune.methods import Method

Number = float | int | str


class Option(NamedTuple):
    """Which part of a method takes an option, its default, and its bounds."""

    part: str
    default: Number
    low: float = 0.0
    high: float = math.inf


OPTIONS: dict[str, Option] = {
    "safety_share": Option("mix", 0.1, 0.001, 0.9),
    "safety_steps": Option("lisa", 4, 1),
    "user_steps": Option("lisa", 6, 1),
    "proximal": Option("lisa", 1.0),
    "kl_weight": Option("kl", 1.0),
    "kl_at": Option("kl", "outputs"),
    "project_below": Option("safelora", 0.35, -1.0, 1.01),
}
PLACES = ("outputs", "layers", "both")
"""Where `kl` compares."""


@dataclass(frozen=True)
class MethodOptions:
    """What only some methods take; none stands for the method's default."""

    safety_share: float | None = None
    """mix: share of safety rows among all rows."""
    safety_steps: int | None = None
    """lisa: steps on safety rows before it turns to the user's."""
    user_steps: int | None = None
    """lisa: steps on the user's rows before it turns to safety rows."""
    proximal: float | None = None
    """lisa: weight of the distance from where the other state has ended."""
    kl_weight: float | None = None
    """kl: weight of the distance from the original model on safety rows."""
    kl_at: str | None = None
    """kl: the replies' distributions (outputs), hidden states at the map's layers (layers), or both."""
    project_below: float | None = None
    """safelora: updates less alike than this to their own projection are projected; above 1 all of them are."""

    def resolve(self, method: Method) -> dict[str, Number]:
        """Return the options of a method with their values.

        Raises:
            UsageError: one is given that the method does not take, or makes no sense.
        """
        found: dict[str, Number] = {}
        for field in fields(self):
            option, given = OPTIONS[field.name], getattr(self, field.name)
            if option.part in (method.adapter, method.objective):
                found[field.name] = _checked(field.name, option, option.default if given is None else given)
            elif given is not None:
                raise UsageError(
                    f"{_spoken(field.name)} belongs to the method {option.part}, not to {method.name}.",
                    mend=f"Leave it out, or use a method with {option.part} in its name.",
                )
        return found


def _checked(name: str, option: Option, value: Number) -> Number:
    if isinstance(option.default, str):
        if value not in PLACES:
            raise UsageError(f"{_spoken(name)} cannot be {value!r}.", mend=f"Use one of: {', '.join(PLACES)}.")
    elif not (isinstance(value, int | float) and option.low <= value <= option.high and math.isfinite(value)):
        high = f" to {option.high:g}" if math.isfinite(option.high) else " or more"
        raise UsageError(f"{_spoken(name)} of {value} makes no sense.", mend=f"Use {option.low:g}{high}.")
    return value


def _spoken(name: str) -> str:
    return f"--{name.replace('_', '-')}"
