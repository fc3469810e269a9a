"""`safetylayers align ask` as people and programs meet it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import httpx
import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from safetylayers.align.ask.active import STRATEGIES
from safetylayers.align.ask.asking import Shown
from safetylayers.align.ask.labels import Labels
from safetylayers.align.ask.questions import Question, load_questions
from safetylayers.cli import ask
from safetylayers.errors import DataError, MapError, ModelError, UsageError
from safetylayers.models import ChatModel
from safetylayers.prompts import load_pairs

app = typer.Typer()
app.command()(ask.run_command)
runner = CliRunner()


@pytest.fixture
def saved(tmp_path: Path, llama: ChatModel) -> str:
    return str(llama.save(tmp_path / "model"))


@pytest.fixture
def rows(tmp_path: Path) -> str:
    path = tmp_path / "questions.jsonl"
    found = [{"prompt": f"Question {n}?", "first": f"Yes, {n}.", "second": f"No; \x1b[31m{n}."} for n in range(12)]
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return str(path)


Options = list[str]


@pytest.fixture
def options(tmp_path: Path, saved: str, rows: str) -> Options:
    return [saved, rows, "--layers", "1-2", "--store", str(tmp_path / "labels.db"), "--by", "ann"]


def invoke(options: Options, *more: str, said: str | None = None) -> Result:
    result = runner.invoke(app, [*options, *more], input=said)
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def answers(tmp_path: Path) -> list[str]:
    return [label.answer for label in Labels(tmp_path / "labels.db").current()]


def test_its_strategies_are_those_that_there_are() -> None:
    assert get_args(ask.Strategy) == STRATEGIES
    assert ask.run_command.__name__ == "ask"


def test_answers_are_read_line_by_line_and_kept_until_next_time(tmp_path: Path, options: Options) -> None:
    result = invoke(options, "--budget", "4", said="1\n2\nthree\n0\nu\ns\n")
    assert result.stdout == "ann\t2 answered\t1 skipped\nheld-out\ttoo few answers\n"
    assert "2 of 4 answered" in result.stderr
    assert result.stderr.count("Answer with 1 the first") == 1
    assert "\x1b[31m" not in result.output
    assert "⟨U+001B⟩[31m" in result.stderr
    assert answers(tmp_path)[2:] == ["skip"]
    again = invoke(options, "--budget", "4", "--export", str(tmp_path / "pairs.jsonl"), said="2\n1\n1\n1\n")
    assert again.stdout.startswith("ann\t4 answered\t1 skipped\n")
    pairs = load_pairs(tmp_path / "pairs.jsonl")
    assert [pair.by for pair in pairs] == ["ann"] * 4
    assert invoke(options, "--budget", "4").stdout == again.stdout


def test_quitting_and_undoing_nothing(tmp_path: Path, options: Options) -> None:
    result = invoke(options, said="u\nq\n")
    assert "nothing to undo" in result.stderr
    assert result.stdout == "held-out\ttoo few answers\n"
    assert answers(tmp_path) == []


def test_bytes_that_are_no_text_are_no_answer(tmp_path: Path, options: Options) -> None:
    result = runner.invoke(app, options, input=b"\xff1\n2\nq\n")
    assert result.exit_code == 0, result.exception
    assert result.stderr.count("Answer with 1 the first") == 1
    assert len(answers(tmp_path)) == 1


def test_what_strangers_wrote_begins_no_line_of_our_own(capsys: pytest.CaptureFixture[str]) -> None:
    fake = "x\n1:\nfake\x1b[2J"
    ask._show(Shown(Question.of(({"role": fake, "content": fake},), "a", "b", value=fake), "a", "b"))
    lines = capsys.readouterr().err.splitlines()
    assert lines.count("1:") == 1
    assert "fake" not in [line[:4] for line in lines]
    assert "Which reply is better in terms of x⟨U+000A⟩1:⟨U+000A⟩fake⟨U+001B⟩[2J?" in lines


def test_the_reply_shown_first_is_the_one_that_1_means(tmp_path: Path, options: Options) -> None:
    result = invoke(options, "--budget", "12", said="1\n" * 12)
    shown = re.findall(r"\n1:\n    (.*)\n2:", result.stderr)
    pairs = Labels(tmp_path / "labels.db").pairs()
    assert [pair.chosen.replace("\x1b", "⟨U+001B⟩") for pair in pairs] == shown
    assert len(set(answers(tmp_path))) == 2


def test_a_program_answers_by_files(tmp_path: Path, options: Options) -> None:
    out, back = tmp_path / "out.jsonl", tmp_path / "answers.jsonl"
    seen: set[str] = set()
    for budget in (6, 12):
        more = ["--answers", str(back)] if seen else []
        result = invoke(options, "--budget", str(budget), "--questions-out", str(out), *more)
        asked = [json.loads(line) for line in out.read_text().splitlines()]
        assert len(asked) == 6
        assert set(asked[0]) == {"id", "prompt", "first", "second", "value"}
        assert not seen & {row["id"] for row in asked}
        seen |= {row["id"] for row in asked}
        replies = [{**row, "answer": "first" if row["first"] < row["second"] else "second"} for row in asked]
        back.write_text("".join(json.dumps({**row, "by": "ann"}) + "\n" for row in replies))
    result = invoke(options, "--answers", str(back), "--json")
    record = json.loads(result.stdout)
    assert record["people"]["ann"]["answers"] == 12
    assert record["accuracy"]["total"] == 12
    assert all(pair.chosen < pair.rejected for pair in Labels(tmp_path / "labels.db").pairs())


def test_people_who_see_things_differently_are_told_apart(tmp_path: Path, options: Options) -> None:
    for by in ("ann", "bea"):
        result = invoke([*options[:-1], by], said="1\n" * 12)
    assert re.search(r"^bea\t12 answered\t0 skipped\treliability [\d.]+\tas the others \d+ %", result.stdout, re.M)


def test_choices_are_asked_anew_without_saying_which_was_chosen(tmp_path: Path, saved: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(
        "".join(json.dumps({"prompt": f"Q{n}", "chosen": f"a{n}", "rejected": f"b{n}"}) + "\n" for n in range(9))
    )
    arguments = [saved, str(path), "--layers", "0", "--store", str(tmp_path / "labels.db"), "--by", "ann"]
    out = tmp_path / "out.jsonl"
    invoke(arguments, "--questions-out", str(out))
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert {row["first"][0] for row in rows} == {"a", "b"}
    assert "chosen" not in out.read_text()
    assert {each.id for each in load_questions(path)} == {row["id"] for row in rows}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (["--map", "nowhere"], UsageError, "one of both"),
        (["--layers", "7-9"], UsageError, "layers 0 to 3"),
        (["--layers", "2-1"], UsageError, "layers 0 to 3"),
        (["--layers", "low"], UsageError, "layers 0 to 3"),
        (["--by", ""], UsageError, "--by NAME"),
        (["--by", "a\nb"], UsageError, "no name"),
        (["--answers", "none.jsonl"], DataError, "no such file"),
    ],
)
def test_mistakes_are_told(options: Options, change: Options, error: type[Exception], message: str) -> None:
    result = runner.invoke(app, [*options, *change])
    assert isinstance(result.exception, error)
    assert message in str(result.exception)
    assert result.stdout == ""


@pytest.mark.parametrize("option", ["--answers", "--questions-out"])
def test_a_page_and_files_do_not_go_together(
    tmp_path: Path, options: Options, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ask, "_serve", lambda *_: None)
    result = runner.invoke(app, [*options, "--web", option, str(tmp_path / "rows.jsonl")])
    assert isinstance(result.exception, UsageError)
    assert "Leave out --web" in str(result.exception)
    assert not (tmp_path / "labels.db").exists()


def test_a_map_that_is_not_there_and_a_store_that_is_none_are_told(tmp_path: Path, saved: str, rows: str) -> None:
    result = runner.invoke(
        app, [saved, rows, "--map", str(tmp_path / "none"), "--store", str(tmp_path / "x"), "--by", "a"]
    )
    assert isinstance(result.exception, MapError)
    for model, layers in ((saved, "7-9"), (str(tmp_path / "none"), "0-1")):
        result = runner.invoke(app, [model, rows, "--layers", layers, "--store", str(tmp_path / "x"), "--by", "a"])
        assert isinstance(result.exception, UsageError | ModelError)
    assert not (tmp_path / "x").exists()  # nothing was begun
    result = runner.invoke(app, [saved, rows, "--layers", "0-1", "--store", rows, "--by", "a"])
    assert isinstance(result.exception, DataError)
    assert "not a store" in str(result.exception)


@pytest.mark.slow
def test_the_page_is_served_until_it_is_interrupted_and_what_was_answered_is_exported(
    tmp_path: Path, options: Options
) -> None:
    code = "import typer; from safetylayers.cli import ask; app = typer.Typer(); app.command()(ask.run_command); app()"
    export = tmp_path / "pairs.jsonl"
    more = ["--web", "--export", str(export)]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *options, *more],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        assert process.stderr is not None
        address = next(line for line in process.stderr if line.startswith("http://127.0.0.1:")).strip()
        with httpx.Client(follow_redirects=True, timeout=20) as client:
            page = client.get(address)
            fields = dict(re.findall(r'name="(csrf|question)" value="([^"]+)"', page.text))
            assert client.post(page.url.join("/answer"), data={**fields, "key": "1"}).status_code == 200
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, err
    assert out.startswith("ann\t1 answered")
    assert len(load_pairs(export)) == 1
