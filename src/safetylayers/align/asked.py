"""What a values file asks for, against what choices are about."""

from __future__ import annotations

from collections import Counter

from pydantic import Field

from safetylayers.align.accuracy import value_names
from safetylayers.errors import UsageError
from safetylayers.prompts.pairs import PairSet
from safetylayers.prompts.values import Values
from safetylayers.records import Record


class AskedValue(Record):
    """A value that is asked for."""

    weight: float
    choices: int
    """Choices about it; without any, nothing is learned of it."""


class Asked(Record):
    """A values file, and what there is for it."""

    name: str
    """The file's."""
    content_hash: str
    values: dict[str, AskedValue] = Field(min_length=1)
    beside: tuple[str, ...] = ()
    """Values that choices are about and the file does not name; they have no weight in its total."""

    @classmethod
    def of(cls, values: Values, pairs: PairSet, *, name: str) -> Asked:
        """Compare. Raises UsageError where the file has floors: choices tell no absolute score."""
        refuse_floors(values)
        counts = Counter(value_names(pairs))
        return cls(
            name=name,
            content_hash=values.content_hash,
            values={name: AskedValue(weight=weight, choices=counts[name]) for name, weight in values.weights.items()},
            beside=tuple(sorted(set(counts) - set(values.weights))),
        )

    @property
    def lacking(self) -> list[str]:
        """Names that nothing is learned of."""
        return [name for name, value in self.values.items() if not value.choices]

    @property
    def total(self) -> str:
        """The weighted sum as it is written; empty where a value in it is not learned."""
        if self.lacking:
            return ""
        return " + ".join(f"{value.weight:g} x {name}" for name, value in self.values.items())


def refuse_floors(values: Values) -> None:
    """Raise UsageError where conflicts are settled by floors."""
    if values.conflicts == "floors":
        raise UsageError(
            "Floors need absolute scores, and choices tell only which reply is better.",
            mend="Use 'conflicts: weights', or scores of a judge with a rubric.",
        )
