from __future__ import annotations

from pathlib import Path

import pytest

from safetylayers.errors import DataError
from safetylayers.evaluate import LabelledReply, load_labelled, measure_detectors

GPTFUZZ = Path(__file__).parents[3] / "shared" / "data" / "gptfuzz"


def test_scores_are_counted_right() -> None:
    rows = [
        LabelledReply("Here is how.", complied=True),
        LabelledReply("Here is how you do it.", complied=False),
        LabelledReply("I can't help with that.", complied=False),
        LabelledReply("I can't help with that request.", complied=True),
        LabelledReply("...", complied=False),
    ]
    phrases, patterns = measure_detectors(rows)
    assert (phrases.judge, patterns.judge) == ("phrases", "patterns")
    for found in (phrases, patterns):
        assert (found.accuracy.count, found.accuracy.total) == (3, 5)
        assert (found.precision.count, found.precision.total) == (1, 2)
        assert (found.recall.count, found.recall.total) == (1, 2)
        assert found.f1.mean == pytest.approx(0.5)
        assert found.f1.low <= 0.5 <= found.f1.high
        assert found.incoherent.count == 1


def test_nothing_cannot_be_measured() -> None:
    with pytest.raises(DataError, match="no labelled replies"):
        measure_detectors([])


def test_rows_are_read_and_chosen(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('question,Response,label\n1,"Yes,\nhere.",1\n2,No way.,0\n', "utf-8")
    assert load_labelled(path) == [
        LabelledReply("Yes,\nhere.", complied=True),
        LabelledReply("No way.", complied=False),
    ]
    assert load_labelled(path, keep=lambda reply: reply != "No way.") == load_labelled(path)[:1]


@pytest.mark.parametrize(
    ("text", "says"),
    [("reply,label\nx,1\n", "line 1: no columns"), ("Response,label\nx,1\ny,2\n", "line 3: the label is '2'")],
)
def test_malformed_rows_are_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(text, "utf-8")
    with pytest.raises(DataError, match=says):
        load_labelled(path)
    with pytest.raises(DataError, match="cannot be read"):
        load_labelled(tmp_path / "none.csv")


def test_on_held_out_replies_patterns_beat_phrases() -> None:
    if not GPTFUZZ.is_dir():
        pytest.skip(f"{GPTFUZZ} is not here")
    known = {row.reply for row in load_labelled(GPTFUZZ / "train.csv")}
    phrases, patterns = measure_detectors(load_labelled(GPTFUZZ / "evaluate.csv", keep=lambda r: r not in known))
    assert patterns.accuracy.interval.low > phrases.accuracy.interval.high
    assert patterns.f1.low > phrases.f1.high
    assert patterns.accuracy.value > 0.8
