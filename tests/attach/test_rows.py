"""Rows: read, split, labelled, answered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from safetylayers.attach import LabelledRow, RowSet, builtin_rows, load_rows
from safetylayers.attach.rows import REFUSALS, Split, labels, styled, valued, with_replies
from safetylayers.errors import DataError
from safetylayers.models import ChatModel
from safetylayers.prompts import builtin, load_values


def write(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_rows_carry_what_a_file_says(tmp_path: Path) -> None:
    path = write(
        tmp_path / "rows.jsonl",
        {"prompt": "Do harm.", "harmful": True, "response": "I'm sorry, but I can't help with that.", "privacy": True},
        {"prompt": "Say hello.", "harmful": 0, "privacy": False},
    )
    first, second = load_rows(path).rows
    assert first == LabelledRow(
        "Do harm.", harmful=True, reply="I'm sorry, but I can't help with that.", refused=True, values={"privacy": True}
    )
    assert (second.harmful, second.refused, second.refuses) == (False, None, None)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"harmful": True}, "line 2: 'prompt' holds no text"),
        ({"prompt": "a"}, "line 2: lacks 'harmful'"),
        ({"prompt": "a", "harmful": "perhaps"}, "line 2: 'harmful' is neither true nor false"),
        ({"prompt": "a", "harmful": True, "response": 5}, "line 2: 'response' holds no text"),
    ],
)
def test_a_malformed_row_is_named_by_its_line(tmp_path: Path, row: dict[str, object], message: str) -> None:
    path = write(tmp_path / "rows.jsonl", {"prompt": "b", "harmful": False}, row)
    with pytest.raises(DataError, match=message):
        load_rows(path)


def test_rows_of_one_kind_alone_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no row is harmful"):
        load_rows(write(tmp_path / "rows.jsonl", {"prompt": "b", "harmful": False}))


def test_a_split_keeps_every_row_once_and_all_rows_of_a_request_together() -> None:
    rows = builtin_rows()
    doubled = RowSet("twice", (*rows.rows, *rows.rows))
    split = Split.of(doubled)
    parts = [part.rows for part in (split.train, split.calibration, split.test)]
    assert sum(map(len, parts)) == len(doubled)
    prompts = [{row.prompt for row in part} for part in parts]
    assert len(prompts[0] | prompts[1] | prompts[2]) == sum(map(len, prompts))
    with pytest.raises(DataError, match="too few"):
        Split.of(RowSet("few", rows.rows[:5]))


def test_built_in_rows_are_of_the_training_split_alone() -> None:
    reported = {text for name in ("malicious", "normal", "borderline") for text in builtin(name, "test").texts}
    assert not reported & {row.prompt for row in builtin_rows().rows}


def test_labels_leave_open_what_is_not_known() -> None:
    refused = LabelledRow("x", harmful=True, reply="No.", refused=True, refuses=True)
    assert labels(refused, "harm") == (True, None)
    assert labels(refused, "refusal") == (True, True)
    assert labels(refused, "privacy") == (None, None)
    complied = LabelledRow("x", harmful=True, reply="Sure.", refused=False, values={"privacy": True})
    assert labels(complied, "harm") == (True, True)
    assert labels(complied, "privacy") == (True, True)
    assert labels(LabelledRow("x", harmful=False), "harm") == (False, False)


def test_styles_change_requests_and_not_what_is_known_of_them() -> None:
    rows = builtin_rows()
    changed = styled(rows, seed=0)
    assert [row.harmful for row in changed.rows] == [row.harmful for row in rows.rows]
    assert 0.2 < sum(a.prompt != b.prompt for a, b in zip(rows.rows, changed.rows, strict=True)) / len(rows) < 0.5
    assert styled(rows, seed=0) == changed


def test_values_add_rows_of_their_examples(tmp_path: Path) -> None:
    path = tmp_path / "values.yaml"
    path.write_text("version: 1\nvalues: {calm: {description: d, examples: {against: [shout], within: [whisper]}}}")
    added = valued(RowSet("none", ()), load_values(path)).rows
    assert [(row.prompt, row.harmful, row.values) for row in added] == [
        ("shout", True, {"calm": True}),
        ("whisper", False, {"calm": False}),
    ]


def test_every_reply_gets_its_opposite_in_the_models_own_words() -> None:
    model = ChatModel.load("tiny")
    rows = RowSet(
        "some",
        (LabelledRow(builtin("malicious", "train").texts[0], harmful=True), LabelledRow("Say hello.", harmful=False)),
    )
    answered = with_replies(rows, model, template="chat", most=4, seed=0).rows
    assert len(answered) == 4
    by_prompt = {row.prompt: [other for other in answered if other.prompt == row.prompt] for row in answered}
    for pair in by_prompt.values():
        assert {row.refuses for row in pair} == {pair[0].refused}
    hello = by_prompt["Say hello."]
    assert {row.refused for row in hello} == {True, False}
    assert next(row.reply for row in hello if row.refused) in REFUSALS
