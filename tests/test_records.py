"""Records: checked on reading, written whole or not at all."""

from __future__ import annotations

import json
import math
import os
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from safetylayers.errors import DataError, OutputError
from safetylayers.records import Difference, Estimate, Provenance, Rate, Record, library_versions, write_text

finite = st.floats(allow_nan=False, allow_infinity=False)


class Result(Record):
    name: str
    rates: dict[str, Rate]
    estimates: list[Estimate]
    provenance: Provenance


def result() -> Result:
    return Result(
        name="Übung",
        rates={"harmful": Rate(count=3, total=40), "nothing": Rate(count=0, total=0)},
        estimates=[Estimate(mean=0.1, low=0.0, high=0.2, total=9)],
        provenance=Provenance(model="tiny", model_hash="ab", data={"normal": "cd"}, seed=4),
    )


def test_a_record_reads_back_as_it_was_written(tmp_path: Path) -> None:
    path = result().write(tmp_path / "new" / "result.json")
    assert (
        Result.read(path).model_dump_json()
        == result().model_copy(update={"provenance": Result.read(path).provenance}).model_dump_json()
    )
    assert Result.read(path).provenance.data == {"normal": "cd"}


@given(finite, finite, finite, st.integers(0, 10**9))
def test_every_finite_estimate_survives_json(mean: float, low: float, high: float, total: int) -> None:
    estimate = Estimate(mean=mean, low=low, high=high, total=total)
    assert Estimate.model_validate_json(estimate.model_dump_json()) == estimate


def test_a_written_rate_shows_value_and_interval_to_other_tools(tmp_path: Path) -> None:
    fields = json.loads(Rate(count=1, total=4).write(tmp_path / "rate.json").read_text("utf-8"))
    assert fields["value"] == 0.25
    assert fields["interval"] == list(Rate(count=1, total=4).interval)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        Estimate(mean=bad, low=0, high=1, total=1)


def test_nan_in_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "estimate.json"
    path.write_text('{"mean": NaN, "low": 0, "high": 1, "total": 1}')
    with pytest.raises(DataError, match=r"estimate\.json.*Estimate"):
        Estimate.read(path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"mean": 1}', '{"mean": 1, "low": 0, "high": 2, "total": 1, "x": 1}'])
def test_a_broken_file_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "estimate.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"estimate\.json"):
        Estimate.read(path)


def test_a_missing_file_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        Rate.read(tmp_path / "none.json")


def test_a_record_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Rate(count=1, total=2).count = 2  # type: ignore[misc]  # the very thing that must fail


@pytest.mark.parametrize(("count", "total"), [(-1, 2), (3, 2), (1, 0)])
def test_a_rate_counts_no_more_than_there_are(count: int, total: int) -> None:
    with pytest.raises(ValidationError):
        Rate(count=count, total=total)


def test_rates_of_hits() -> None:
    assert Rate.of([True, False, True, True]) == Rate(count=3, total=4)
    assert Rate.of([]).value == 0
    assert str(Rate(count=1, total=2)) == "50.0 % [9.5, 90.5]"


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=20))
def test_no_change_is_a_difference_of_exactly_zero(values: list[float]) -> None:
    assert Difference.of(values, values) == Difference(mean=0, low=0, high=0)


def test_a_difference_is_after_minus_before() -> None:
    assert Difference.of([0.0, 0.0], [1.0, 1.0]) == Difference(mean=1, low=1, high=1)


def test_provenance_notes_versions_and_the_time_in_utc() -> None:
    provenance = Provenance(model="m", model_hash="h")
    assert {"torch", "transformers", "numpy"} <= provenance.versions.keys()
    assert provenance.versions == library_versions()
    offset = datetime.fromisoformat(provenance.created).utcoffset()
    assert offset is not None
    assert offset.total_seconds() == 0


def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = write_text(tmp_path / "result.json", "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_replaces_the_whole_file(tmp_path: Path) -> None:
    path = write_text(tmp_path / "result.json", "a long old text")
    write_text(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written") as caught:
        write_text(tmp_path / "file" / "result.json", "text")
    assert "-o" in caught.value.mend


def test_a_folder_in_the_files_place_is_an_output_error_and_leaves_no_scratch(tmp_path: Path) -> None:
    (tmp_path / "result.json").mkdir()
    with pytest.raises(OutputError, match=r"result\.json"):
        write_text(tmp_path / "result.json", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_files_are_readable_as_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        path = write_text(tmp_path / "a.txt", "text")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o644
