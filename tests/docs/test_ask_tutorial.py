"""The commands of the tutorial on asking people; the web page itself is opened in tests/align/ask/page."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from safetylayers.cli.app import app

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorials" / "ask.md"


def commands() -> list[list[str]]:
    blocks = re.findall(r"^```bash\n(.*?)^```", TUTORIAL.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def test_a_person_and_a_program_answer_as_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"Say {n}.", "first": f"It is {n}.", "second": f"No {n}."} for n in range(8)]
    Path("questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    person, page, asking, answering = commands()
    assert page[-1] == "--web"
    asked = CliRunner().invoke(app, person[1:], input="1\n2\nq\n")
    assert asked.exit_code == 0, asked.output
    drawn = CliRunner().invoke(app, asking[1:])
    assert drawn.exit_code == 0, drawn.output
    questions = [json.loads(line) for line in Path("next.jsonl").read_text().splitlines()]
    answers = [{"id": question["id"], "answer": "first", "by": "judge"} for question in questions]
    Path("answers.jsonl").write_text("".join(json.dumps(answer) + "\n" for answer in answers))
    taken = CliRunner().invoke(app, answering[1:])
    assert taken.exit_code == 0, taken.output
    assert Path("labels.db").is_file()
