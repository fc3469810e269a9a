"""The command line as its users meet it: real processes' exit codes and messages, and the commands end to end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from safetylayers.cli.app import app
from safetylayers.errors import MapError, UsageError
from safetylayers.models import ChatModel
from safetylayers.prompts import builtin

COMMANDS = (
    "demo", "locate", "finetune", "screen", "restore", "attach", "attack", "harden", "gate", "explain", "evaluate",
    "serve", "stop",
)  # fmt: skip
runner = CliRunner()


def program(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from safetylayers.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def saved(tmp_path: Path, llama: ChatModel) -> Path:
    return llama.save(tmp_path / "model")


def small_sets(folder: Path) -> list[str]:
    """Options that point to sets of a dozen prompts, so that a command takes a second."""
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in builtin("normal", "test").texts[:12]))
    return [part for name in ("malicious", "borderline", "normal") for part in (f"--{name}", str(path))]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command: str) -> None:
    result = runner.invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert f"safetylayers {command}" in result.output


def test_a_users_mistake_ends_with_code_2_and_one_message() -> None:
    result = program("locate", "./no-such-model")
    assert result.returncode == 2
    assert "error: ./no-such-model: no such folder" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_a_misspelt_option_is_named() -> None:
    result = program("locate", "tiny", "--mod", "faithful")
    assert result.returncode == 2
    assert "--mod" in result.stderr


def test_importing_the_package_loads_no_heavy_library() -> None:
    code = "import safetylayers, sys; print([m for m in ('torch', 'transformers', 'sklearn') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_locating_a_random_model_finds_nothing_and_writes_map_record_and_report(tmp_path: Path, saved: Path) -> None:
    result = runner.invoke(app, ["locate", str(saved), "-o", str(tmp_path / "map"), *small_sets(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "No safety layers: the model does not refuse" in result.output
    made = {path.name for path in (tmp_path / "map").iterdir()}
    assert made == {"map.json", "tensors.safetensors", "result.json", "report.html"}


def test_options_can_come_from_a_file(tmp_path: Path, saved: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"output: {tmp_path / 'elsewhere'}\nseed: 7\nborderline: {tmp_path / 'prompts.jsonl'}\n")
    arguments = ["locate", str(saved), "--config", str(config), "--json", *small_sets(tmp_path)]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "elsewhere" / "result.json").read_text())["provenance"]["seed"] == 7


@pytest.mark.parametrize(
    ("text", "message"), [("sead: 7", "no such option: sead"), ("- 7", "not a mapping"), ("{", "YAML")]
)
def test_a_bad_configuration_file_is_a_usage_error(tmp_path: Path, text: str, message: str) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(text)
    result = runner.invoke(app, ["locate", "tiny", "--config", str(config)])
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)


def test_finetuning_and_evaluating_end_to_end(tmp_path: Path, saved: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps({"prompt": f"Say {w}", "response": w}) + "\n" for w in "abcd"))
    tuned = tmp_path / "tuned"
    arguments = ["finetune", str(saved), str(data), "-o", str(tuned), "--method", "freeze:1-2", "--steps", "2"]
    result = runner.invoke(app, [*arguments, "--no-measure"])
    assert result.exit_code == 0, result.output
    assert json.loads((tuned / "result.json").read_text())["frozen_layers"] == [1, 2]
    arguments = ["evaluate", str(saved), str(tuned), "-o", str(tmp_path / "evaluation"), "--tokens", "4"]
    result = runner.invoke(app, [*arguments, *small_sets(tmp_path), "--questions", "questions/calibration"])
    assert result.exit_code == 0, result.output
    assert len(json.loads((tmp_path / "evaluation" / "result.json").read_text())["models"]) == 2
    assert "side by side" in (tmp_path / "evaluation" / "report.html").read_text()


def test_a_judge_that_does_not_exist_is_answered_with_the_choices(saved: Path) -> None:
    result = runner.invoke(app, ["evaluate", str(saved), "--judge", "oracle"])
    assert isinstance(result.exception, UsageError)
    assert "rubric:URL#MODEL" in str(result.exception)


def test_the_generated_pages_are_up_to_date() -> None:
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=root, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_a_file_s_options_have_the_names_that_help_shows(tmp_path: Path, saved: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("map: no-such-map\n")
    (tmp_path / "data.jsonl").write_text('{"prompt": "a", "response": "b"}\n')
    result = runner.invoke(app, ["finetune", str(saved), str(tmp_path / "data.jsonl"), "--config", str(config)])
    assert isinstance(result.exception, MapError)
    config.write_text("judge: oracle\n")
    result = runner.invoke(app, ["evaluate", str(saved), "--config", str(config)])
    assert isinstance(result.exception, UsageError)
    assert "oracle" in str(result.exception)


def test_an_interrupt_from_the_keyboard_says_how_to_go_on() -> None:
    code = (
        "import safetylayers.models as m; from safetylayers.cli import main\n"
        "def interrupted(*_, **__): raise KeyboardInterrupt\n"
        "m.ChatModel.load = interrupted; main()"
    )
    result = subprocess.run([sys.executable, "-c", code, "locate", "tiny"], capture_output=True, text=True, check=False)
    assert result.returncode == 130
    assert "run the same command again to go on" in result.stderr


@pytest.fixture(scope="module")
def tiny_map(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("map")
    assert runner.invoke(app, ["locate", "tiny", "-o", str(folder)]).exit_code == 0
    return folder


def test_attach_writes_a_model_that_works_its_record_and_its_report_and_can_be_revalidated(
    tiny_map: Path, tmp_path: Path
) -> None:
    rows = [{"prompt": text, "harmful": True} for text in builtin("malicious", "train").texts]
    rows += [{"prompt": text, "harmful": False} for text in builtin("normal", "train").texts]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    guarded = tmp_path / "guarded"
    result = runner.invoke(
        app,
        ["attach", "tiny", "--map", str(tiny_map), "--train", str(tmp_path / "rows.jsonl"), "--steps", "10",
         "-o", str(guarded), "--json"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["layers"] == [0, 1]
    for name in ("safety_layers.json", "safety_layers.safetensors", "result.json", "evaluation.json", "report.html"):
        assert (guarded / name).is_file()
    assert not (guarded / ".attach-work").exists()
    sets = small_sets(tmp_path)
    seen = runner.invoke(app, ["evaluate", str(guarded), *sets, "-o", str(tmp_path / "seen")])
    assert seen.exit_code == 0, seen.output
    assert "safety layers are on" in " ".join(seen.stderr.split())
    again = runner.invoke(app, ["attach", str(guarded), "--revalidate", str(guarded), "-o", str(tmp_path / "again")])
    assert again.exit_code == 0, again.output
    assert again.stdout.split("\t")[0] in ("holds", "recalibrated", "retrain")
    assert json.loads((tmp_path / "again" / "result.json").read_text())["before"] == record["health"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "need the model's safety map"),
        (["--map", "m", "--layers", "3-x"], "no range of layers"),
        (["--map", "m", "--untrained", "--train", "practice"], "--untrained goes with neither"),
        (["--revalidate", "r", "--map", "m"], "--revalidate goes with neither"),
        (["--revalidate", "r", "-o", "r"], "holds the layers to be revalidated"),
    ],
)
def test_attach_refuses_options_that_do_not_go_together(options: list[str], message: str, tmp_path: Path) -> None:
    result = runner.invoke(app, ["attach", "tiny", "-o", str(tmp_path / "out"), *options])
    assert isinstance(result.exception, UsageError | MapError)
    assert message in str(result.exception) or "holds no safety map" in str(result.exception)
