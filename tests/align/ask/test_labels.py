"""Answers are kept once they are given, whoever else writes, and nothing else's file is touched."""

from __future__ import annotations

import json
import math
import resource
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from safetylayers.align.ask.labels import VERSION, Label, Labels, checked_name
from safetylayers.align.ask.questions import Question, load_questions
from safetylayers.errors import DataError, OutputError, UsageError
from safetylayers.prompts import load_pairs


def question(number: int, value: str = "") -> Question:
    return Question.of(
        ({"role": "user", "content": f"Question {number}?"},), f"Yes {number}.", f"No {number}.", value=value
    )


@pytest.fixture
def asked() -> list[Question]:
    return [question(number) for number in range(6)]


@pytest.fixture
def labels(tmp_path: Path, asked: list[Question]) -> Labels:
    made = Labels(tmp_path / "labels.db")
    made.add(asked)
    return made


def current(labels: Labels) -> list[tuple[str, str, str]]:
    return [(label.question, label.answer, label.by) for label in labels.current()]


# Questions


def test_the_same_two_replies_are_the_same_question_whichever_was_chosen() -> None:
    turns = ({"role": "user", "content": "Hi"},)
    one, other = Question.of(turns, "a", "b"), Question.of(turns, "b", "a")
    assert one == other
    assert one.id != Question.of(turns, "a", "b", value="honesty").id
    assert one.id != Question.of(({"role": "user", "content": "Ho"},), "a", "b").id
    assert Question.from_json(one.to_json()) == one


def test_the_order_of_replies_does_not_tell_which_was_chosen() -> None:
    chosen_first = [question(number).first.startswith("Yes") for number in range(200)]
    assert 70 < sum(chosen_first) < 130


def test_questions_come_from_rows_of_two_replies_and_from_choices(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Hi", "first": " a ", "second": "b", "value": "honesty"},
        {"prompt": [{"role": "user", "content": "Hi"}], "first": "b", "second": "a", "value": "honesty"},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    [found] = load_questions(path)
    assert {found.first, found.second} == {"a", "b"}
    assert found.value == "honesty"
    path.write_text(json.dumps({"prompt": "Hi", "chosen": "a", "rejected": "b", "value": "honesty"}))
    assert load_questions(path) == [found]


def test_each_row_says_for_itself_whether_it_is_a_choice(tmp_path: Path) -> None:
    replies = {"prompt": "Hi", "first": "a", "second": "b"}
    choice = {"prompt": "Ho", "chosen": "a", "rejected": "b"}
    path = tmp_path / "rows.jsonl"
    for rows in ([replies, choice], [choice, replies]):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert [each.messages[-1]["content"] for each in load_questions(path)] == [row["prompt"] for row in rows]
    table = tmp_path / "rows.csv"
    table.write_text("prompt,first,second,chosen,rejected\nHi,a,b,,\nHo,,,a,b\n")
    assert load_questions(table)[::-1] == load_questions(path)


def test_a_source_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "Hi", "chosen": "a", "rejected": "b"}))
    opened, open_ = [], Path.open
    monkeypatch.setattr(Path, "open", lambda self, *a, **k: opened.append(self) or open_(self, *a, **k))
    assert len(load_questions(path)) == 1
    assert opened == [path]


@pytest.mark.parametrize("replies", [("first", "second"), ("chosen", "rejected")])
@pytest.mark.parametrize("role", ["Which reply is better?\n1", "User", "tool", ""])
def test_a_role_that_there_is_not_is_named_with_its_line(tmp_path: Path, replies: tuple[str, str], role: str) -> None:
    turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    rows = [
        {"prompt": [{"role": first, "content": "Be kind."}, *turns[1:]], **dict(zip(replies, "ab", strict=True))}
        for first in ("system", role)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(rows[0]))
    assert load_questions(path)[0].messages == tuple(turns)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"line 2: .*role.*\n.*user, assistant, system"):
        load_questions(path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "Hi", "first": "a"}, "no 'second'"),
        ({"prompt": "Hi", "first": "a", "second": "a "}, "both replies are the same"),
        ({"prompt": "Hi", "first": "a", "second": 7}, "'second' holds no text"),
        ({"prompt": [{"role": "user"}], "first": "a", "second": "b"}, "'prompt' is neither"),
        ({"prompt": [], "first": "a", "second": "b"}, "'prompt' is neither"),
        ({"prompt": " ", "first": "a", "second": "b"}, "'prompt' is neither"),
    ],
)
def test_a_malformed_question_is_named_with_its_line(tmp_path: Path, row: object, message: str) -> None:
    path = tmp_path / "rows.jsonl"
    good = {"prompt": "Hi", "first": "a", "second": "b"}
    path.write_text(json.dumps(good) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(DataError, match="line 2") as caught:
        load_questions(path)
    assert message in str(caught.value)


def test_half_a_character_is_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    for one, other in (("first", "second"), ("chosen", "rejected")):
        good = {"prompt": "Hi", one: "a", other: "b", "value": "", "category": ""}
        for column in good:
            path.write_text(json.dumps(good) + "\n" + json.dumps({**good, column: "a \ud83d"}))
            with pytest.raises(DataError, match="line 2: half a character"):
                load_questions(path)


# The store


def test_an_answer_may_be_changed_and_taken_back_and_all_of_it_is_remembered(
    labels: Labels, asked: list[Question]
) -> None:
    first, second, *_ = (each.id for each in asked)
    labels.answer(first, "first", by="ann", seconds=2.5)
    labels.answer(first, "second", by="bea")
    labels.answer(second, "skip", by="ann")
    labels.answer(first, "equal", by="ann")
    assert current(labels) == [(first, "second", "bea"), (second, "skip", "ann"), (first, "equal", "ann")]
    labels.withdraw(first, by=" ann ")
    for none in (first, "none", "\ud83d"):
        labels.withdraw(none, by="ann")  # there is nothing any more
    with pytest.raises(UsageError):
        labels.withdraw(first, by=" ")
    assert current(labels) == [(first, "second", "bea"), (second, "skip", "ann")]
    history = labels.history(first)
    assert [(label.answer, label.by) for label in history] == [
        ("first", "ann"), ("second", "bea"), ("equal", "ann"), ("withdrawn", "ann"),
    ]  # fmt: skip
    assert history[0].seconds == 2.5
    assert history[0].at.endswith("+00:00")


def test_it_is_all_there_when_it_is_opened_again(labels: Labels, asked: list[Question]) -> None:
    labels.answer(asked[3].id, "first", by="ann")
    again = Labels(labels.path)
    again.add(asked)
    assert again.current() == labels.current()
    assert list(again.questions().values()) == asked


def test_what_is_no_answer_is_refused(labels: Labels, asked: list[Question]) -> None:
    for change in (
        *({"question": question} for question in ("none", "\ud83d")),
        *({"answer": "third"}, {"by": "  "}, {"by": "a\nb"}, {"by": "a" * 101}, {"by": "\ud83d"}),
        *({"seconds": seconds} for seconds in (-1.0, math.inf, math.nan, 1e308)),
    ):
        with pytest.raises(UsageError):
            labels.answer(**{"question": asked[0].id, "answer": "first", "by": "ann", **change})  # type: ignore[arg-type]
    assert labels.current() == []
    assert checked_name("  Zoë  ") == "Zoë"


def test_choices_are_exported_with_who_made_them_and_read_back(
    labels: Labels, asked: list[Question], tmp_path: Path
) -> None:
    for each, answer in zip(asked, ("first", "second", "equal", "skip"), strict=False):
        labels.answer(each.id, answer, by="ann")  # type: ignore[arg-type]
    labels.answer(asked[0].id, "second", by="bea")
    pairs = labels.pairs()
    assert [(pair.chosen, pair.by) for pair in pairs] == [
        (asked[0].first, "ann"), (asked[1].second, "ann"), (asked[0].second, "bea"),
    ]  # fmt: skip
    assert labels.write_pairs(tmp_path / "pairs.jsonl") == 3
    assert load_pairs(tmp_path / "pairs.jsonl").pairs == pairs.pairs


# Files of answers


def write(path: Path, rows: list[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_file_of_answers_is_taken_and_taking_it_twice_changes_nothing(
    labels: Labels, asked: list[Question], tmp_path: Path
) -> None:
    rows: list[object] = [
        {"id": asked[0].id, "answer": "first", "by": "judge", "seconds": 1.5, "why": "it is right"},
        {"id": asked[1].id, "answer": "equal"},
    ]
    for _ in range(2):
        assert labels.take_answers(write(tmp_path / "answers.jsonl", rows), by="ann") == 2
        assert current(labels) == [(asked[0].id, "first", "judge"), (asked[1].id, "equal", "ann")]
    assert len(labels.history(asked[0].id)) == 1
    assert labels.current()[0].seconds == 1.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "none"}, "no question has the id 'none'"),
        ({"id": 7}, "not an answer"),
        ({"id": "\ud83d"}, "half a character"),
        ({"answer": "First"}, "not an answer"),
        ({"answer": "withdrawn"}, "not an answer"),
        ({"by": ""}, "is no name"),
        ({"seconds": "long"}, "is no number"),
        ({"seconds": "inf"}, "is no number"),
        ({"seconds": math.inf}, "is no number"),
        ({"seconds": math.nan}, "is no number"),
        ({"seconds": 1e308}, "is no number"),
        ({"seconds": -1}, "is no number"),
    ],
)
def test_a_malformed_answer_is_named_with_its_line_and_none_is_kept(
    labels: Labels, asked: list[Question], tmp_path: Path, change: dict[str, object], message: str
) -> None:
    good = {"id": asked[0].id, "answer": "first", "by": "judge"}
    path = write(tmp_path / "answers.jsonl", [good, {**good, "id": asked[1].id, **change}])
    with pytest.raises(DataError, match="line 2") as caught:
        labels.take_answers(path)
    assert message in str(caught.value)
    assert labels.current() == []


# Other files, and trouble


def test_a_file_that_is_no_store_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    text, other = tmp_path / "notes.txt", tmp_path / "other.db"
    text.write_text("These are notes, and no database at all. " * 20)
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE mine (x)")
    database.close()
    before = [path.read_bytes() for path in (text, other)]
    for path in (text, other):
        with pytest.raises(DataError, match="--store"):
            Labels(path)
    assert [path.read_bytes() for path in (text, other)] == before
    with pytest.raises(OutputError, match="cannot be written"):
        Labels(tmp_path)
    with pytest.raises(OutputError, match="cannot be written"):
        Labels(text / "labels.db")


def test_a_store_of_a_later_version_is_refused(labels: Labels) -> None:
    with sqlite3.connect(labels.path) as database:
        database.execute(f"PRAGMA user_version = {VERSION + 1}")
    database.close()
    with pytest.raises(DataError, match="later version"):
        Labels(labels.path)


def test_a_damaged_store_is_told(labels: Labels, asked: list[Question]) -> None:
    with sqlite3.connect(labels.path) as database:
        database.execute("UPDATE questions SET question = '{\"id\": 1}'")
    database.close()
    with pytest.raises(DataError, match="damaged"):
        labels.questions()
    with sqlite3.connect(labels.path) as database:
        database.execute("DROP TABLE answers")
    database.close()
    with pytest.raises(DataError, match="damaged"):
        labels.current()


def test_a_full_disk_is_told_and_what_was_kept_stays(labels: Labels, asked: list[Question]) -> None:
    labels.answer(asked[0].id, "first", by="ann")
    many = [question(number) for number in range(100, 5000)]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))  # no file may grow beyond that
    try:
        with pytest.raises(OutputError, match="kept before are safe"):
            labels.add(many)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert current(labels) == [(asked[0].id, "first", "ann")]
    assert len(labels.questions()) == len(asked)
    labels.answer(asked[1].id, "first", by="ann")


ANSWER_MANY = """
import sys
from pathlib import Path
from safetylayers.align.ask.labels import Labels
from safetylayers.align.ask.questions import load_questions

labels, found = Labels(Path(sys.argv[1])), load_questions(sys.argv[2])
labels.add(found)
for question in found:
    labels.answer(question.id, "first", by=sys.argv[3])
"""


def test_processes_that_begin_and_write_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    path, rows = tmp_path / "labels.db", tmp_path / "rows.jsonl"
    asked = [{"prompt": f"Question {number}?", "first": "Yes.", "second": "No."} for number in range(40)]
    rows.write_text("".join(json.dumps(row) + "\n" for row in asked))
    command = [sys.executable, "-c", ANSWER_MANY, str(path), str(rows)]
    workers = [subprocess.Popen([*command, name]) for name in ("ann", "bea", "cem")]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0]
    found = Labels(path).current()
    assert len(found) == 120
    assert {label.by for label in found} == {"ann", "bea", "cem"}


def test_whoever_waits_too_long_for_another_process_is_told(
    labels: Labels, asked: list[Question], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("safetylayers.align.ask.labels.PATIENCE_SECONDS", 0.1)
    other = sqlite3.connect(labels.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(OutputError, match="another process"):
            labels.answer(asked[0].id, "first", by="ann")
        assert labels.current() == []  # reading does not wait
    finally:
        other.rollback()
        other.close()
    labels.answer(asked[0].id, "first", by="ann")
    assert [label for label in labels.current() if isinstance(label, Label)]
