"""`safetylayers align`: a reward from choices, on the practice model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from safetylayers.align.reward import ValueReward
from safetylayers.cli.app import app
from safetylayers.prompts import PairSet
from safetylayers.tiny import choices

runner = CliRunner()


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(
        tmp_path_factory.mktemp("pairs") / "pairs.jsonl",
        choices.choose(choices.requests(60, seed=0), about="courtesy", seed=0),
    )


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Choices with categories; three about prompts that `rows` holds as well."""
    drawn = (choices.requests(40, seed=9), choices.requests(3, seed=0))
    found = [choices.choose(asked, about="courtesy", seed=1) for asked in drawn]
    return written(
        tmp_path_factory.mktemp("others") / "others.jsonl",
        PairSet("", tuple(pair for one in found for pair in one)),
        categories=True,
    )


def count(path: Path) -> int:
    return len(path.read_text().splitlines())


def written(path: Path, pairs: PairSet, *, categories: bool = False) -> Path:
    fields = ({"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected, "value": p.value} for p in pairs)
    extra = ({"category": p.category} if categories else {} for p in pairs)
    path.write_text("".join(json.dumps({**row, **more}) + "\n" for row, more in zip(fields, extra, strict=True)))
    return path


VALUES = """version: 1
conflicts: {}
values:
  courtesy: {{description: c, weight: 2.0, examples: {{against: [A], within: [B]}}}}
  honesty: {{description: h, {}examples: {{against: [A], within: [B]}}}}
"""


def test_a_reward_is_learned_saved_and_shown(rows: Path, tmp_path: Path) -> None:
    folder = tmp_path / "reward"
    result = runner.invoke(app, ["align", "reward", "tiny", str(rows), "--layers", "5-6", "-o", str(folder)])
    assert result.exit_code == 0, result.output
    name, count, _, length, words = result.stdout.strip().split("\t")
    assert (name, count.split()[1]) == ("courtesy", "choices")
    assert length.startswith("length ")
    assert words.startswith("words ")
    reward = ValueReward.load(folder)
    assert reward.record.layers == (5, 6)
    page = (folder / "report.html").read_text()
    assert "Held-out choices told right" in page


def test_json_is_the_record(rows: Path, tmp_path: Path) -> None:
    arguments = ["align", "reward", "tiny", str(rows), "--layers", "5", "-o", str(tmp_path / "r"), "--json"]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["values"]["courtesy"]["accuracy"]["total"] == count(rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Give --map or --layers"),
        (["--layers", "five"], "There are no layers 'five'"),
        (["--layers", "5-99"], "There are no layers"),
        (["--layers", "5", "--steps", "9"], "--steps belongs to --train"),
        (["--layers", "5", "--lora-rank", "9"], "--lora-rank belongs to --train"),
        (["--train", "all", "--lora-rank", "9"], "--lora-rank belongs to --train lora"),
        (["--train", "lora", "--layers", "5"], "--layers has no meaning with --train"),
        (["--train", "lora", "--people"], "--people has no meaning with --train"),
        (["--train", "lora", "--learning-rate", "0"], "With a learning rate of 0"),
        (["--layers", "5", "--people"], " choices do not say who made them"),
    ],
)
def test_what_is_missing_is_said(rows: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    result = runner.invoke(app, ["align", "reward", "tiny", str(rows), "-o", str(tmp_path / "r"), *arguments])
    assert result.exit_code != 0
    assert message in str(result.exception)


def test_other_choices_test_it_by_category_and_those_learned_from_are_left_out(
    rows: Path, others: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "reward"
    arguments = ["align", "reward", "tiny", str(rows), "--layers", "5", "-o", str(folder), "--test", str(others)]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "Left out, about prompts that were learned from" in result.stderr
    lines = result.stdout.splitlines()
    assert sum(line.startswith("test others: ") for line in lines) == 3
    test = ValueReward.load(folder).record.tests["others"]
    assert test.seen > 0
    assert test.seen + test.accuracy.total == count(others)
    assert sum(rate.total for rate in test.categories.values()) == test.accuracy.total
    assert "Other choices: others" in (folder / "report.html").read_text()


def test_choices_that_were_all_learned_from_are_refused_before_anything_is_learned(rows: Path, tmp_path: Path) -> None:
    arguments = ["align", "reward", "tiny", str(rows), "--layers", "5", "-o", str(tmp_path / "r"), "--test", str(rows)]
    result = runner.invoke(app, arguments)
    assert f"nothing to test on: {count(rows)} choices are about prompts that were" in str(result.exception)
    assert not (tmp_path / "r").exists()


def test_a_values_file_is_held_against_what_is_learned(rows: Path, tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(VALUES.format("weights", ""))
    arguments = ["align", "reward", "tiny", str(rows), "--layers", "5", "--values", str(file)]
    result = runner.invoke(app, [*arguments, "-o", str(tmp_path / "r")])
    assert result.exit_code == 0, result.output
    assert f"asked courtesy\tweight 2\t{count(rows)} choices" in result.stdout
    assert "total\tnone: no choices are about honesty" in result.stdout
    record = ValueReward.load(tmp_path / "r").record
    assert record.asked is not None
    assert record.provenance.data["values.yaml"] == record.asked.content_hash
    file.write_text(VALUES.format("floors", "floor: -1.0, "))
    result = runner.invoke(app, [*arguments, "-o", str(tmp_path / "s")])
    assert "Floors need absolute scores" in str(result.exception)
    assert not (tmp_path / "s").exists()


def test_a_reward_model_is_trained_tested_and_taken_up_again(rows: Path, others: Path, tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="the extra 'align' is not installed")
    folder = tmp_path / "model"
    arguments = ["align", "reward", "tiny", str(rows), "--train", "all", "--steps", "3", "--learning-rate", "1e-3"]
    arguments += ["--batch-size", "8", "-o", str(folder), "--json", "--test", str(others)]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["model"]["pairs"] == count(rows)
    assert record["tests"]["others"]["unfamiliar"] is None
    assert record["tests"]["others"]["seen"] > 0
    assert json.loads((folder / "accuracy.json").read_text()) == record
    assert "It does not know how sure it is" in (folder / "report.html").read_text()
    weights = (folder / "model.safetensors").stat().st_mtime_ns
    assert runner.invoke(app, arguments).exit_code == 0
    assert (folder / "model.safetensors").stat().st_mtime_ns == weights


def test_with_no_other_choices_a_fifth_of_the_prompts_is_held_out_of_the_training(rows: Path, tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="the extra 'align' is not installed")
    arguments = ["align", "reward", "tiny", str(rows), "--train", "lora", "--steps", "2", "--batch-size", "4"]
    result = runner.invoke(app, [*arguments, "-o", str(tmp_path / "model"), "--json"])
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    test = record["tests"]["pairs, held out"]
    assert record["model"]["pairs"] + test["accuracy"]["total"] == count(rows)
    assert 0.1 < test["accuracy"]["total"] / count(rows) < 0.3
    assert test["seen"] == 0
