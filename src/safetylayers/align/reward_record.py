"""What is known of a reward, but its tensors."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field

from safetylayers.align.accuracy import Accuracy
from safetylayers.align.asked import Asked
from safetylayers.align.features import Pool
from safetylayers.align.people import People
from safetylayers.records import Provenance, Rate, Record
from safetylayers.stats import Interval


class ChooserRecord(Record):
    """How far one person's choices count."""

    choices: int
    reliability: float
    """See `people.Person`."""
    interval: Interval
    agreement: float
    """Share of this person's choices that a reward of the others' would have made."""
    apart: bool
    """The common reward explains this person's choices far less than the others'."""

    @classmethod
    def of(cls, found: People) -> dict[str, Self]:
        """Return everybody's, by name."""
        apart = found.apart()
        return {
            each.name: cls(
                choices=each.choices,
                reliability=each.reliability,
                interval=each.interval,
                agreement=each.agreement,
                apart=each.name in apart,
            )
            for each in found.people
        }


class ValueRecord(Accuracy):
    """What is known of one value's reward. Its accuracy is that of held-out choices, by prompts in five parts."""

    choices: int
    precision: float
    """Of the prior, chosen by the evidence."""
    unit: float
    """Root mean square of the gaps in worth of the choices learned from; scores are in it."""
    choosers: dict[str, ChooserRecord] = Field(default_factory=dict)
    """Where people were told apart."""


class RewardTest(Accuracy):
    """What a reward makes of other choices, about prompts that it has not learned from."""

    provenance: Provenance
    seen: int
    """Choices left out: about prompts that were learned from."""
    unknown: int
    """Choices left out: about values that were not learned."""
    unfamiliar: Rate | None
    """Choices with a reply unlike those that were learned from; None of a reward that cannot tell."""
    values: dict[str, Rate]
    """Accuracy by value."""


class RewardRecord(Record):
    """Everything about a reward but its tensors."""

    schema_version: Literal[1] = 1
    provenance: Provenance
    layers: tuple[int, ...] = Field(min_length=1)
    pool: Pool
    shrinkage: float
    floor: float
    limit: float
    """`Reading`'s, by which replies are unfamiliar."""
    values: dict[str, ValueRecord] = Field(min_length=1)
    people: int = 0
    """Names among those who chose."""
    tests: dict[str, RewardTest] = Field(default_factory=dict)
    """Files of choices that were not learned from."""
    asked: Asked | None = None
    """What a values file asks for."""

    def with_asked(self, asked: Asked | None) -> Self:
        """Return it with what a values file asks for, whose hash joins the provenance."""
        if asked is None:
            return self
        data = {**self.provenance.data, asked.name: asked.content_hash}
        provenance = self.provenance.model_copy(update={"data": data})
        return self.model_copy(update={"asked": asked, "provenance": provenance})
