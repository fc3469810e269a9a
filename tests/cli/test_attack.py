"""`attack` and `gate` as their users meet them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from safetylayers.cli.app import app
from safetylayers.errors import UsageError
from safetylayers.models import ChatModel

runner = CliRunner()


@pytest.fixture
def saved(tmp_path: Path, llama: ChatModel) -> str:
    return str(llama.save(tmp_path / "model"))


@pytest.fixture
def few(tmp_path: Path) -> str:
    path = tmp_path / "few.txt.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"Ask {word}"}) + "\n" for word in "abc"))
    return str(path)


def test_attack_writes_its_record_and_report_and_goes_on_from_kept_cases(tmp_path: Path, saved: str, few: str) -> None:
    arguments = ["attack", saved, few, "--with", "prefill:tokens=2,templates", "--tokens", "3"]
    outputs = []
    for _ in range(2):
        result = runner.invoke(app, [*arguments, "-o", str(tmp_path / "attacked")])
        assert result.exit_code == 0, result.output
        assert "prefill:tokens=2\tphrases" in result.stdout
        outputs.append((tmp_path / "attacked" / "result.json").read_text())
    results = json.loads(outputs[0])["results"]
    assert [found["title"] for found in results] == ["prefill:tokens=2", "templates"]
    assert [len(found["cases"]) for found in results] == [3, 3]
    assert [found["cases"] for found in json.loads(outputs[1])["results"]] == [found["cases"] for found in results]
    assert "how far they got" in (tmp_path / "attacked" / "report.html").read_text()


def test_attack_prints_its_record_as_json(tmp_path: Path, saved: str, few: str) -> None:
    arguments = ["attack", saved, few, "--with", "templates", "--tokens", "2", "-o", str(tmp_path / "a"), "--json"]
    assert json.loads(runner.invoke(app, arguments).stdout)["results"][0]["attack"] == "templates"


def test_a_server_without_a_models_name_is_refused() -> None:
    result = runner.invoke(app, ["attack", "http://127.0.0.1:9/v1"])
    assert isinstance(result.exception, UsageError)
    assert "URL#MODEL" in str(result.exception)


@pytest.mark.parametrize(("at_most", "code"), [(1.0, 0), (0.0, 1)])
def test_gate_ends_with_its_verdict(tmp_path: Path, saved: str, few: str, at_most: float, code: int) -> None:
    policy = tmp_path / "gate.yaml"
    bound = f"{{attack: 'prefill:tokens=1', at_most: {at_most}}}"
    # A judge that finds an attack's success in gibberish would make this one's rate zero: say what is refused instead.
    harmless = f"{{prompts: {few}, refused_at_most: 0.0}}"
    right = f"{{prompts: {tmp_path / 'q.jsonl'}, right_at_least: {1 - at_most}}}"
    (tmp_path / "q.jsonl").write_text('{"prompt": "2 plus 3", "answer": "unlikely words"}\n')
    policy.write_text(f"prompts: {few}\ntokens: 2\nattacks: {{begun: {bound}}}\nharmless: {{fine: {harmless}}}\n")
    with policy.open("a") as file:
        file.write(f"questions: {{sums: {right}}}\n")
    arguments = [
        "gate",
        saved,
        "--policy",
        str(policy),
        "-o",
        str(tmp_path / "out"),
        "--junit",
        str(tmp_path / "j.xml"),
    ]
    result = runner.invoke(app, arguments)
    assert result.exit_code == code, result.output
    assert json.loads((tmp_path / "out" / "result.json").read_text())["passed"] is (code == 0)
    assert ("<failure" in (tmp_path / "j.xml").read_text()) is (code == 1)
    assert (tmp_path / "out" / "report.html").exists()
