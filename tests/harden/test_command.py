"""The command: its options reach the run, and mistakes are answered in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from safetylayers.cli.harden import run_command
from safetylayers.errors import UsageError
from safetylayers.harden import HardenResult

app = typer.Typer()
app.command()(run_command)
SMALL = ["--steps", "2", "--batch-size", "2", "--no-measure", "--device", "cpu"]


@pytest.fixture
def rows(tmp_path: Path) -> list[str]:
    kinds = {"harmful": [("Do harm.", "Sure, like this.")] * 3, "retain": [("Say hello.", "Hello!")] * 3}
    options = []
    for kind, pairs in kinds.items():
        path = tmp_path / f"{kind}.jsonl"
        path.write_text("\n".join(json.dumps({"prompt": p, "response": r}) for p, r in pairs))
        options += [f"--{kind}", str(path)]
    return options


def test_options_reach_the_run(tmp_path: Path, rows: list[str]) -> None:
    out = tmp_path / "out"
    given = ["tiny", "--method", "latent", "--layers", "0-1", "--full", "--retain-weight", "3", "-o", str(out)]
    found = CliRunner().invoke(app, [*given, *SMALL, *rows, "--json", "--seed", "5"], catch_exceptions=False)
    assert found.exit_code == 0
    result = HardenResult.model_validate_json(found.stdout)
    assert result == HardenResult.read(out / "result.json")
    assert (result.method, result.lora, result.layers) == ("latent", False, {"latent": (0, 1)})
    assert (result.settings.steps, result.settings.retain_weight, result.provenance.seed) == (2, 3.0, 5)
    assert set(result.provenance.data) == {"harmful", "retain"}
    assert result.collapse is None


def test_a_method_that_needs_a_map_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="safetylayers locate tiny"):
        CliRunner().invoke(
            app, ["tiny", "--method", "latent", "-o", str(tmp_path / "x"), *SMALL], catch_exceptions=False
        )
