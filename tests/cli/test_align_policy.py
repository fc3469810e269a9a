"""`safetylayers align policy` and `align irl`, on the practice model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from safetylayers.align.policy import PolicyResult
from safetylayers.cli.align_policy import load_data, watched
from safetylayers.cli.app import app
from safetylayers.errors import UsageError
from safetylayers.models import ChatModel
from safetylayers.prompts import ExampleSet, PairSet, PromptSet

pytest.importorskip("trl", reason="the extra 'align' is not installed")
runner = CliRunner()
QUICK = ["--steps", "2", "--batch-size", "2", "--tokens", "8", "--no-relocate"]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "pairs.jsonl"
    rows = [{"prompt": f"Tell me about number {n}.", "chosen": f"It is {n}.", "rejected": "No."} for n in range(20)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def reward(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reward")
    result = runner.invoke(app, ["align", "reward", "tiny", str(pairs), "--layers", "5", "-o", str(folder)])
    assert result.exit_code == 0, result.output
    return folder


def test_dpo_leaves_a_model_its_card_and_a_report(pairs: Path, reward: Path, tmp_path: Path) -> None:
    result = runner.invoke(
        app,
        ["align", "policy", "tiny", str(pairs), "--reward", str(reward), "--penalty", "0", "-o", str(tmp_path), *QUICK],
    )
    assert result.exit_code == 0, result.output
    assert "KL\t" in result.stdout
    assert ChatModel.load(tmp_path).n_layers == 10
    card = (tmp_path / "README.md").read_text()
    assert "aligned by dpo" in card
    assert "Harmful" in card or "harmful" in card
    page = (tmp_path / "report.html").read_text()
    assert "Reward over the distance from the reference" in page
    assert "Held-out choices" in page
    assert (tmp_path / "evaluation.json").is_file()


def test_grpo_follows_a_reward_and_prints_its_record(pairs: Path, reward: Path, tmp_path: Path) -> None:
    given = ["align", "policy", "tiny", str(pairs), "--method", "grpo", "--reward", str(reward), "--replies", "2"]
    result = runner.invoke(app, [*given, *QUICK, "--no-measure", "--watch", "none", "--json", "-o", str(tmp_path)])
    assert result.exit_code == 0, result.output
    found = PolicyResult.model_validate_json(result.stdout)
    assert (found.plan.method, found.steps, found.looks) == ("grpo", 2, ())


def test_what_is_missing_is_said_and_nothing_is_written(pairs: Path, tmp_path: Path) -> None:
    output = tmp_path / "policy"
    result = runner.invoke(app, ["align", "policy", "tiny", str(pairs), "--method", "grpo", "-o", str(output)])
    assert isinstance(result.exception, UsageError)
    assert "grpo needs a reward" in str(result.exception)
    assert not output.exists()
    for option in (["--max-kl", "0"], ["--learning-rate", "0"], ["--beta", "-1"]):
        assert runner.invoke(app, ["align", "policy", "tiny", str(pairs), *option]).exit_code == 2
    unused = runner.invoke(app, ["align", "policy", "tiny", str(pairs), "--reader", "tiny", "-o", str(output)])
    assert "--reader is about a reward" in str(unused.exception)


def test_each_method_loads_what_it_learns_from(pairs: Path, tmp_path: Path) -> None:
    assert isinstance(load_data(str(pairs), "dpo"), PairSet)
    assert isinstance(load_data(str(pairs), "sft"), PairSet)
    assert isinstance(load_data(str(pairs), "rloo"), PairSet)
    asked = tmp_path / "asked.jsonl"
    asked.write_text('{"prompt": "a"}\n')
    assert isinstance(load_data(str(asked), "rloo"), PromptSet)
    turns = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
    ]
    (tmp_path / "turns.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    whole = load_data(str(tmp_path / "turns.jsonl"), "grpo")
    assert isinstance(whole, ExampleSet)
    assert whole.examples[0].messages[0]["role"] == "system"
    shown = tmp_path / "shown.jsonl"
    shown.write_text('{"prompt": "a", "response": "b"}\n')
    assert isinstance(load_data(str(shown), "sft"), ExampleSet)


def test_by_itself_it_watches_built_in_prompts_of_both_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    found = watched(None)
    assert found is not None
    assert len(found) == 80
    assert watched("none") is None
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert watched(None) is None


def test_irl_takes_rounds_and_reports_them(tmp_path: Path) -> None:
    shown = tmp_path / "shown.jsonl"
    shown.write_text("".join(json.dumps({"prompt": f"Say {n}.", "response": f"{n}!"}) + "\n" for n in range(10)))
    given = ["align", "irl", "tiny", str(shown), "--layers", "5", "--rounds", "1", "--steps", "2", "--replies", "2"]
    result = runner.invoke(app, [*given, "--batch-size", "2", "--tokens", "8", "-o", str(tmp_path / "irl")])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("round 1\t")
    assert (tmp_path / "irl" / "round-1" / "policy" / "model.safetensors").is_file()
    assert "Can the reward still tell" in (tmp_path / "irl" / "report.html").read_text()
