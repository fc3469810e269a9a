"""What became of the safety layers, from two maps."""

from __future__ import annotations

import pytest

from safetylayers.errors import UsageError
from safetylayers.locate import MapRecord, compare_maps
from safetylayers.locate.curves import Curve
from safetylayers.locate.gap import Gap
from safetylayers.records import Provenance, Rate
from safetylayers.stats import Interval


def record(first: int | None, last: int | None, *, degrees: tuple[float, ...] = (0.0, 1.0, 2.0, 3.0)) -> MapRecord:
    flat = Curve(mean=degrees, deviation=degrees)
    gap = Gap(degrees=degrees, deviation=degrees, peak_growth=max(degrees), null_growth=0.5, onset=1, smoothing=2)
    return MapRecord(
        provenance=Provenance(model="m", model_hash="h"), architecture="Llama", n_layers=len(degrees), mode="default",
        template="chat", verdict="", first=first, last=last, curves={"N-N": flat}, gap=gap,
        malicious_refused=Rate(count=9, total=10), normal_refused=Rate(count=0, total=10), probes=(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "kind", "overlap"),
    [
        ((None, None), (1, 2), "created", None),
        ((1, 2), (None, None), "broken", None),
        ((1, 2), (1, 2), "held", 1.0),
        ((0, 1), (1, 2), "moved", 1 / 3),
        ((None, None), (None, None), "absent", None),
    ],
)
def test_layers_are_created_broken_held_or_moved(
    before: tuple[int | None, int | None], after: tuple[int | None, int | None], kind: str, overlap: float | None
) -> None:
    change = compare_maps(record(*before), record(*after))
    assert change.kind == kind
    assert change.overlap == overlap
    assert change.sentence.endswith(".")


def test_a_shift_within_what_prompts_tell_is_none() -> None:
    before = record(0, 2).model_copy(update={"first_interval": Interval(0, 1), "last_interval": Interval(2, 3)})
    assert compare_maps(before, record(1, 3)).kind == "held"
    assert compare_maps(before, record(2, 3)).kind == "moved"


def test_the_layer_whose_gap_changed_most_is_named_also_where_it_narrowed() -> None:
    change = compare_maps(record(0, 1), record(0, 1, degrees=(0.5, 1.0, -4.0, 3.5)))
    assert change.gap_change == (0.5, 0.0, -6.0, 0.5)
    assert change.most_changed == 2


def test_maps_of_models_with_other_numbers_of_layers_cannot_be_compared() -> None:
    with pytest.raises(UsageError, match="4 layers, the other of 5"):
        compare_maps(record(0, 1), record(0, 1, degrees=(0.0,) * 5))
