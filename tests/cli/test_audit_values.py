"""`safetylayers align audit`: a record and a report, on the practice model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from safetylayers.align.audit import ValueAudit
from safetylayers.align.reward import learn_reward
from safetylayers.cli.audit_values import EXAMPLE, run_command
from safetylayers.errors import WrongModelError
from safetylayers.models import ChatModel
from safetylayers.tiny import choices

app = typer.Typer()
app.command(epilog=EXAMPLE)(run_command)


@pytest.fixture(scope="module")
def reward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pairs = choices.choose(choices.requests(60, seed=0), about="courtesy", seed=0)
    learned = learn_reward(ChatModel.load("tiny"), pairs, layers=(5,), components=8)
    return learned.reward.save(tmp_path_factory.mktemp("reward"))


def typed(reward: Path, output: Path, *arguments: str, model: str = "tiny-base") -> Result:
    given = [
        model,
        "--base",
        "tiny-base",
        "--reward",
        str(reward),
        "-o",
        str(output),
        "--replies",
        "1",
        "--tokens",
        "6",
    ]
    return CliRunner().invoke(app, [*given, *arguments])


def test_an_audit_is_written_and_shown(reward: Path, tmp_path: Path) -> None:
    result = typed(reward, tmp_path, "normal/test", "--prompts-limit", "6", model="tiny")
    assert result.exit_code == 0, result.output
    name, *_, held_out, differs = result.stdout.splitlines()
    assert name.startswith("courtesy\t")
    assert held_out.startswith("held-out\t")
    assert differs.startswith("differs\t")
    assert ValueAudit.read(tmp_path / "result.json").base == "tiny-base"
    assert "What each value weighs" in (tmp_path / "report.html").read_text("utf-8")


def test_json_is_the_record_and_the_reader_is_found_by_its_name(reward: Path, tmp_path: Path) -> None:
    config = tmp_path / "audit.yaml"
    config.write_text("prompts-limit: 3\nmethod: log-ratio\n")
    result = typed(reward, tmp_path, "--json", "--config", str(config))
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["method"] == "log-ratio"
    assert set(record["provenance"]["data"]) == {"malicious/test+normal/test", "reward"}
    assert not record["differs"]


def test_another_reader_is_refused_before_anything_is_drawn(reward: Path, tmp_path: Path) -> None:
    result = typed(reward, tmp_path, "--reader", "tiny-base")
    assert isinstance(result.exception, WrongModelError)
    assert not (tmp_path / "result.json").exists()
