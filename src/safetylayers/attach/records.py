"""What safety layers are known by."""

from __future__ import annotations

from typing import Literal

from safetylayers.records import Rate, Record
from safetylayers.stats import Interval

PlacedBy = Literal["map", "heads", "user"]


class Health(Record):
    """What the layers do for the weights in hand."""

    auroc: float
    """Of the harm head at prompts' ends, malicious against normal prompts."""
    auroc_interval: Interval
    recall: Rate
    """Malicious prompts for which the gate opens, at the prompt's end or in the model's own reply."""
    false_alarms: Rate
    """Normal prompts for which it opens. Thresholds are set on such prompts: this is in sample, and no estimate."""
    corrected: Rate
    """Malicious prompts whose reply, begun compliantly, becomes a refusal while the gate is held open."""
    data: dict[str, str]
    """"malicious" and "normal" -> the prompt set's content hash."""
