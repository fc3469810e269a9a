"""Whether training created, moved or broke the safety layers: two maps held against each other."""

from __future__ import annotations

from typing import Literal

from safetylayers.errors import UsageError
from safetylayers.locate.safety_map import MapRecord
from safetylayers.records import Rate, Record

Kind = Literal["created", "broken", "held", "moved", "absent"]


class MapChange(Record):
    """What became of the safety layers."""

    kind: Kind
    before: tuple[int, int] | None
    after: tuple[int, int] | None
    """First and last safety layer, inclusive."""
    overlap: float | None
    """Layers in both ranges among those in either; none unless both models have some."""
    growth_before: float
    """Degrees by which the angular gap grows at its peak."""
    growth_after: float
    gap_change: tuple[float, ...]
    """Degrees by which the gap widened, a layer."""
    refused_before: Rate
    """Malicious prompts, by the unscaled model."""
    refused_after: Rate

    @property
    def sentence(self) -> str:
        """What happened, in words."""
        return {
            "created": f"Training created safety layers: {_spoken(self.after)}.",
            "broken": f"Training broke the safety layers: {_spoken(self.before)} were some, and none are left.",
            "held": f"The safety layers are where they were, to within what prompts tell: {_spoken(self.after)}.",
            "moved": f"The safety layers moved from {_spoken(self.before)} to {_spoken(self.after)}.",
            "absent": "There are no safety layers, as before.",
        }[self.kind]

    @property
    def most_changed(self) -> int:
        """The layer whose gap widened or narrowed most."""
        return max(range(len(self.gap_change)), key=lambda layer: abs(self.gap_change[layer]))


def compare_maps(before: MapRecord, after: MapRecord) -> MapChange:
    """Compare. Raises UsageError where the models have different numbers of layers."""
    if before.n_layers != after.n_layers:
        raise UsageError(
            f"One map is of {before.n_layers} layers, the other of {after.n_layers}.",
            mend="Compare maps of a model before and after training.",
        )
    was, now = _range(before), _range(after)
    overlap = _overlap(was, now) if was and now else None
    return MapChange(
        kind=_kind(before, was, now),
        before=was,
        after=now,
        overlap=overlap,
        growth_before=before.gap.peak_growth,
        growth_after=after.gap.peak_growth,
        gap_change=tuple(b - a for a, b in zip(before.gap.degrees, after.gap.degrees, strict=True)),
        refused_before=before.malicious_refused,
        refused_after=after.malicious_refused,
    )


def _range(record: MapRecord) -> tuple[int, int] | None:
    return None if record.first is None or record.last is None else (record.first, record.last)


def _kind(before: MapRecord, was: tuple[int, int] | None, now: tuple[int, int] | None) -> Kind:
    if was is None:
        return "created" if now else "absent"
    if now is None:
        return "broken"
    firsts, lasts = before.first_interval or (was[0], was[0]), before.last_interval or (was[1], was[1])
    held = firsts[0] <= now[0] <= firsts[1] and lasts[0] <= now[1] <= lasts[1]
    return "held" if held or was == now else "moved"


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> float:
    first, second = (set(range(each[0], each[1] + 1)) for each in (one, other))
    return len(first & second) / len(first | second)


def _spoken(layers: tuple[int, int] | None) -> str:
    return "none" if layers is None else f"layers {layers[0]} to {layers[1]}"
