"""What the settings of all guards have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class GuardSettings(BaseModel):
    """A guard's settings, as they stand in a policy. Unknown ones are refused, so that a misspelt one is noticed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
