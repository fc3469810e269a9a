"""What an audit writes down."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from safetylayers.records import Estimate, Provenance, Record

Method = Literal["preference", "log-ratio", "max-margin"]
ALIKE = 0.8
"""Correlation from which two weights cannot be told apart."""


class Weight(Record):
    """What a value weighs."""

    mean: float
    low: float
    """95 % credible interval, the scores' own uncertainty included."""
    high: float
    above: float
    """Probability that it is above 0."""
    given_low: float
    """The same interval, were the scores' means certain: what is wider beyond it comes of the scorer."""
    given_high: float
    gap: Estimate
    """By how much the model's replies score higher than the base's, whatever the other values do; of so many prompts.
    Its interval has the scores' own uncertainty in it."""


class AuditedPrompt(Record):
    """What the weights make of the replies to one prompt."""

    prompt: str
    pairs: int
    mean: float
    """By how much they put the model's replies above the base's: log-odds with preference."""
    low: float
    high: float
    undecided: bool
    """The interval contains 0."""


class TellingPair(Record):
    """Two replies that the weights put far apart."""

    prompt: str
    model: str
    base: str
    gap: float


class ValueAudit(Record):
    """What a model seems to optimise beside its base."""

    schema_version: Literal[1] = 1
    provenance: Provenance
    """The model's; its data are the prompts and, where scores are a reward's, the reward."""
    base: str
    base_hash: str
    method: Method
    weights: dict[str, Weight] = Field(min_length=1)
    undecided: tuple[str, ...]
    """Values of which it is not even sure whether they count for or against a reply."""
    correlation: dict[str, dict[str, float]]
    """Of the posterior."""
    held_out: Estimate
    """Share of pairs whose reply of the model is told by weights learned from earlier prompts; a half is chance."""
    differs: bool
    """Whether that interval lies above one half. Where not, the weights say nothing: do not read them."""
    replies: int
    """Asked for, of each model to each prompt."""
    pairs: int
    empty: int
    """Pairs left out because one of their replies was empty."""
    unfamiliar: int
    """Replies unlike all that the reward was learned from: their scores cannot be relied on."""
    prompts: tuple[AuditedPrompt, ...]
    """The least told first."""
    telling: tuple[TellingPair, ...]

    def alike(self) -> list[tuple[str, str]]:
        """Return the values whose weights cannot be told apart."""
        names = list(self.weights)
        both = [(one, other) for place, one in enumerate(names) for other in names[place + 1 :]]
        return [(one, other) for one, other in both if abs(self.correlation[one][other]) > ALIKE]
