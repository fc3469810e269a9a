"""Prompt sets and examples from files: what goes in comes out, and every error says where and what to do."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safetylayers.errors import DataError
from safetylayers.prompts import Example, load_examples, load_prompts

Rows = list[dict[str, object]]
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40).filter(
    lambda text: text.strip() != ""
)


def write_jsonl(path: Path, rows: Rows) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


def write_json(path: Path, rows: Rows) -> None:
    path.write_text(json.dumps(rows), "utf-8")


def write_csv(path: Path, rows: Rows) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(path: Path, rows: Rows) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


WRITERS = {".jsonl": write_jsonl, ".json": write_json, ".csv": write_csv, ".parquet": write_parquet}
each_kind = pytest.mark.parametrize(("suffix", "write"), WRITERS.items())
Writer = Callable[[Path, Rows], None]


def refused(path: Path | str, *said: str, load: Callable[..., object] = load_prompts) -> DataError:
    """The error that loading raises; its message says all of `said`, and it has a mend."""
    with pytest.raises(DataError) as caught:
        load(path)
    for part in said:
        assert part in caught.value.message
    assert caught.value.mend
    return caught.value


@each_kind
@settings(deadline=None, max_examples=25)
@given(found=st.lists(texts, min_size=1, max_size=6))
def test_prompts_come_out_as_they_went_in(suffix: str, write: Writer, found: list[str]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"rows{suffix}"
        write(path, [{"prompt": text} for text in found])
        assert load_prompts(path).texts == [text.strip() for text in found]


@each_kind
@settings(deadline=None, max_examples=25)
@given(pairs=st.lists(st.tuples(texts, texts), min_size=1, max_size=6))
def test_examples_come_out_as_they_went_in(suffix: str, write: Writer, pairs: list[tuple[str, str]]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"rows{suffix}"
        write(path, [{"prompt": prompt, "response": response} for prompt, response in pairs])
        assert load_examples(path).examples == tuple(Example.of(*pair) for pair in pairs)


@each_kind
def test_a_row_without_text_is_named(tmp_path: Path, suffix: str, write: Writer) -> None:
    rows: Rows = [{"prompt": f"prompt {number}"} for number in range(1, 21)]
    rows[16] = {"prompt": " "}
    path = tmp_path / f"rows{suffix}"
    write(path, rows)
    place = {".jsonl": "line 17", ".csv": "line 18", ".json": "row 17", ".parquet": "row 17"}[
        suffix
    ]  # CSV has a header
    refused(path, str(path), place, "'prompt' holds no text")


@each_kind
def test_a_missing_column_is_named_with_those_there_are(tmp_path: Path, suffix: str, write: Writer) -> None:
    path = tmp_path / f"rows{suffix}"
    write(path, [{"wish": "a", "other": "b"}])
    assert "the name prompt, text" in refused(path, str(path), "wish, other").mend
    refused(path, "'goal'", "wish, other", load=lambda source: load_prompts(source, column="goal"))
    assert load_prompts(path, column="wish").texts == ["a"]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv"])
def test_an_empty_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    path.write_text("")
    refused(path, str(path), "no rows")


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "rows.parquet", [{"prompt": "a"}])
    table = pyarrow.parquet.read_table(tmp_path / "rows.parquet").slice(0, 0)
    pyarrow.parquet.write_table(table, tmp_path / "empty.parquet")
    refused(tmp_path / "empty.parquet", "no rows")
    (tmp_path / "header.csv").write_text("prompt\n")
    refused(tmp_path / "header.csv", "no rows")


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv"])
def test_text_that_is_not_utf_8_is_refused_with_its_line(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(b'{"prompt": "a"}\n{"prompt": "caf\xe9"}\n')
    assert "UTF-8" in refused(path, f"{path}, line 2").mend


def test_malformed_json_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a"}\n\n{"prompt": \n')
    refused(tmp_path / "rows.jsonl", "rows.jsonl, line 3", "not valid JSON")
    (tmp_path / "rows.json").write_text('[{"prompt": "a"},\n{"prompt" "b"}]')
    refused(tmp_path / "rows.json", "rows.json", "line 2", "not valid JSON")


def test_malformed_json_is_refused_with_its_line_whatever_the_file_is_called(tmp_path: Path) -> None:
    path = tmp_path / "online.json"
    path.write_text('[{"prompt": "a"},\n{"prompt" "b"}]')
    refused(path, "online.json, line 2")


def test_json_of_another_form_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text('{"prompt": "a"}')
    refused(tmp_path / "rows.json", "not a list of rows")
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a"}\n[1]\n')
    refused(tmp_path / "rows.jsonl", "line 2", "not a JSON object")


def test_a_broken_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("prompt\na\nb, c\n")
    refused(tmp_path / "rows.csv", "line 3", "more cells")
    (tmp_path / "rows.parquet").write_text("no table")
    refused(tmp_path / "rows.parquet", "rows.parquet", "not a Parquet file")


def test_an_unknown_kind_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("a")
    assert ".jsonl" in refused(tmp_path / "rows.txt", "rows.txt", "unknown kind").mend
    refused(tmp_path, "unknown kind")
    assert "path" in refused(tmp_path / "none.jsonl", "none.jsonl", "no such file").mend


def test_what_is_neither_a_file_nor_on_the_hub_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    assert "split 'train'" in refused("no-such-owner/no-such-set", "no-such-owner/no-such-set", "hub").mend


def test_other_fields_are_kept_and_the_limit_holds(tmp_path: Path) -> None:
    rows: Rows = [{"id": "x", "question": "a", "category": "c", "answer": "b"}, {"question": "d"}, {"question": ""}]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    first, second = load_prompts(tmp_path / "rows.jsonl", limit=2)
    assert (first.id, first.text, first.category, first.answer) == ("x", "a", "c", "b")
    assert (second.id, second.text) == ("2", "d")


def test_plain_strings_and_messages_are_prompts_too(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text('["a", "b"]')
    assert load_prompts(tmp_path / "rows.json").texts == ["a", "b"]
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    write_jsonl(tmp_path / "rows.jsonl", [{"messages": turns}])
    assert load_prompts(tmp_path / "rows.jsonl").texts == ["u"]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("prompt\na\n", "utf-8-sig")
    assert load_prompts(tmp_path / "rows.csv").texts == ["a"]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
def test_conversations_keep_their_turns(tmp_path: Path, suffix: str) -> None:
    turns = [{"role": r, "content": c} for r, c in (("system", "s"), ("user", "u"), ("assistant", "a"))]
    WRITERS[suffix](tmp_path / f"rows{suffix}", [{"messages": turns}])
    (example,) = load_examples(tmp_path / f"rows{suffix}")
    assert example.messages == tuple(turns)
    assert (example.prompt, example.response) == ("u", "a")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"messages": []}, "not a list of turns"),
        ({"messages": "hello"}, "not a list of turns"),
        ({"messages": [{"role": "user", "content": "u"}]}, "not the assistant's"),
        ({"messages": [{"role": "user"}, {"role": "assistant", "content": "a"}]}, "turn 1"),
        ({"messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": " "}]}, "turn 2"),
        ({"messages": ["u", "a"]}, "turn 1"),
        ({"prompt": "p", "response": ""}, "'response' holds no text"),
        ({"prompt": None, "response": "r"}, "'prompt' holds no text"),
        ({"prompt": "p"}, "It has: prompt"),
    ],
)
def test_a_malformed_example_is_named(tmp_path: Path, row: dict[str, object], said: str) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [{"prompt": "p", "response": "r"}, row])
    refused(path, f"{path}, line 2", said, load=load_examples)


def test_examples_are_known_by_their_content(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"prompt": "p", "response": "r"}])
    write_csv(tmp_path / "b.csv", [{"prompt": "p", "response": "r"}])
    write_csv(tmp_path / "c.csv", [{"prompt": "p", "response": "other"}])
    a, b, c = (load_examples(tmp_path / name).content_hash for name in ("a.jsonl", "b.csv", "c.csv"))
    assert a == b != c


def test_a_zero_is_an_answer_and_an_id(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [{"id": 0, "question": "a", "answer": 0}, {"question": "b", "answer": None}])
    first, second = load_prompts(tmp_path / "rows.jsonl")
    assert (first.id, first.answer) == ("0", "0")
    assert (second.id, second.answer) == ("2", "")
