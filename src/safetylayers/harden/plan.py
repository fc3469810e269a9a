"""What a run was asked to do, kept beside its checkpoints, so that no other run goes on from them."""

from __future__ import annotations

from safetylayers.harden.settings import HardenSettings
from safetylayers.records import Record

PLAN = "harden.json"


class HardenPlan(Record):
    """Everything that decides a run's weights."""

    method: str
    layers: dict[str, tuple[int, ...]]
    lora: bool
    settings: HardenSettings
    suffix_optimiser: str
    seed: int
    dtype: str
    model_hash: str
    data: dict[str, str]
