"""The commands of the tutorial on explanations, as they stand there, on a small map."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from safetylayers.cli.app import app
from safetylayers.locate import locate
from safetylayers.models import ChatModel
from safetylayers.prompts import builtin

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorials" / "explain.md"


def commands() -> list[list[str]]:
    blocks = re.findall(r"^```bash\n(.*?)^```", TUTORIAL.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def test_every_command_writes_what_the_tutorial_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    few = {name: builtin(name, "calibration").sample(40, 0) for name in ("normal", "malicious", "borderline")}
    found = locate(ChatModel.load("tiny"), **few)  # type: ignore[arg-type]  # no other option is in it
    for folder in ("map", "safetylayers-demo/map"):
        found.save(tmp_path / folder)
    for name in ("full", "sppft"):  # what the demo leaves behind; any changed copy serves
        ChatModel.load("tiny-base").save(tmp_path / "safetylayers-demo" / "models" / name)
    first, *rest = commands()
    assert first[:2] == ["safetylayers", "locate"]
    for words in rest:
        result = CliRunner().invoke(app, words[1:])
        assert result.exit_code == 0, (words, result.output, result.exception)
        folder = tmp_path / words[words.index("-o") + 1]
        assert (folder / "report.html").is_file()
        assert (folder / "result.json").is_file()
    assert len(rest) == 5
