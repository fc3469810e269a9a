"""`screen` and `restore` as commands, and the options of `finetune`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from safetylayers.cli import finetune, restore, screen
from safetylayers.demo.datasets import attack_examples
from safetylayers.errors import UsageError
from safetylayers.finetune import finetune as tune
from safetylayers.locate import SafetyMap, locate
from safetylayers.models import ChatModel
from safetylayers.prompts import ExampleSet, builtin


@pytest.fixture(scope="module")
def map_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("map")
    few = {name: builtin(name, "calibration").sample(40, 0) for name in ("normal", "malicious", "borderline")}
    locate(ChatModel.load("tiny"), **few).save(folder)  # type: ignore[arg-type]
    return folder


def invoke(command: object, *arguments: object) -> Result:
    app = typer.Typer()
    app.command()(command.run_command)  # type: ignore[attr-defined]
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=True)


def write_rows(path: Path, rows: ExampleSet) -> Path:
    lines = [json.dumps({"messages": row.messages}) for row in rows]
    path.write_text("\n\n".join(lines) + "\n", "utf-8")  # a blank line between rows: places are of the file
    return path


def test_screening_writes_flagged_rows_with_their_lines_and_the_others(tmp_path: Path, map_folder: Path) -> None:
    benign, implicit = attack_examples("normal", 95, seed=3), attack_examples("implicit", 5, seed=4)
    data = write_rows(tmp_path / "rows.jsonl", ExampleSet("rows", (*benign.examples, *implicit.examples)))
    result = invoke(screen, "tiny", data, "--map", map_folder, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    flagged, clean = (
        [json.loads(line) for line in (tmp_path / "out" / name).read_text().splitlines()]
        for name in ("flagged.jsonl", "clean.jsonl")
    )
    assert len(flagged) + len(clean) == 100
    places = {row["place"] for row in flagged}
    assert len(places & {f"{data}, line {2 * number - 1}" for number in range(96, 101)}) >= 4
    assert all(row["reasons"] and row["score"] >= 1 for row in flagged)
    assert all((tmp_path / "out" / name).exists() for name in ("result.json", "report.html"))
    assert f"{flagged[0]['place']}: {flagged[0]['score']:.2f}" in result.stdout


def test_restoring_an_untouched_model_is_cheap_and_needs_an_empty_folder(tmp_path: Path, map_folder: Path) -> None:
    tune("tiny", attack_examples("normal", 16, seed=0), method="full", output=tmp_path / "tuned", max_steps=1)
    arguments = [tmp_path / "tuned", "--aligned", "tiny", "--map", map_folder, "-o", tmp_path / "out", "--no-measure"]
    result = invoke(restore, *arguments, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["reached"]
    assert found["layers"] == list(SafetyMap.load(map_folder).range)
    assert (found["chosen"]["strength"], found["chosen"]["elsewhere"]) == (0.5, 0.0)
    assert (tmp_path / "out" / "report.html").exists()
    assert ChatModel.load(tmp_path / "out").n_layers == 10
    again = invoke(restore, *arguments)
    assert isinstance(again.exception, UsageError)


def test_an_option_of_another_method_is_refused(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", attack_examples("normal", 4, seed=0))
    result = invoke(finetune, "tiny", data, "--method", "lora", "--proximal", "1", "-o", tmp_path / "out")
    assert isinstance(result.exception, UsageError)
    assert "--proximal belongs to the method lisa, not to lora" in str(result.exception)
