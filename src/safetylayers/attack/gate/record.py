"""What a gate found."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from safetylayers.records import Provenance, Rate, Record


class Check(Record):
    """One bound, and what was measured."""

    name: str
    what: str
    """What the rate counts."""
    rate: Rate | None
    """None where the time was spent before."""
    judge: str = ""
    """Whose rate it is; empty where nobody judges."""
    bound: float = Field(ge=0, le=1)
    side: Literal["at most", "at least"]
    passed: bool
    certain: bool
    """Whether the whole interval lies on the same side of the bound as the rate."""
    seconds: float = Field(ge=0)

    @property
    def sentence(self) -> str:
        """What came of it, in words."""
        bound = f"{self.side} {100 * self.bound:g} %"
        if self.rate is None:
            return f"{self.what}: not run, the time was spent; {bound} was asked"
        doubt = "" if self.certain else "; the interval reaches across the bound"
        by = f" (by {self.judge})" if self.judge else ""
        return f"{self.what}: {self.rate}{by}, {bound} was asked{doubt}"


class GateResult(Record):
    """All checks of one target."""

    passed: bool
    checks: tuple[Check, ...]
    policy_hash: str
    provenance: Provenance
