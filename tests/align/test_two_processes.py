"""Two processes under `accelerate launch`, each with half of the rows, learn what one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from support import random_chat_model

pytest.importorskip("trl", reason="the extra 'align' is not installed")

CONFIG = Path(__file__).parents[2] / "docs" / "tutorials" / "two-processes.yaml"
COMMANDS = {
    "policy": ["--method", "dpo", "--no-measure", "--no-relocate", "--watch", "none"],
    "reward": ["--train", "all"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    random_chat_model("Llama").save(folder / "model")
    rows = [{"prompt": f"ask {n}", "chosen": "yes", "rejected": "no way"} for n in range(40)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def run(folder: Path, name: str, launcher: list[str], output: str) -> None:
    given = [name, str(folder / "model"), str(folder / "pairs.jsonl"), "-o", str(folder / output)]
    settings = ["--steps", "3", "--batch-size", "4", "--learning-rate", "1e-3", *COMMANDS[name]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*launcher, "-m", "safetylayers", "align", *given, *settings]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "measure"), [("policy", "losses"), ("reward", "final_loss")])
def test_the_loss_and_the_weights_are_those_of_one_process(folder: Path, name: str, measure: str) -> None:
    accelerate = str(Path(sys.executable).with_name("accelerate"))
    run(folder, name, [sys.executable], f"{name}-1")
    run(folder, name, [accelerate, "launch", "--config_file", str(CONFIG)], f"{name}-2")
    one, two = (json.loads((folder / f"{name}-{n}" / "result.json").read_text())[measure] for n in (1, 2))
    assert two == pytest.approx(one, abs=1e-5)
    weights = [load_file(folder / f"{name}-{n}" / "model.safetensors") for n in (1, 2)]
    assert weights[0].keys() == weights[1].keys()
    for key, tensor in weights[0].items():
        assert float((tensor - weights[1][key]).abs().max()) < 1e-5
