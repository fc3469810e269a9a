"""The commands of the tutorial on alignment, as they stand there, at a small size."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from safetylayers.cli.app import app
from safetylayers.tiny.value_rows import write_rows

pytest.importorskip("trl", reason="the extra 'align' is not installed")

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorials" / "align.md"
SMALL = {"--steps": "2", "--rounds": "1"}
QUICK = {
    "policy": ["--tokens", "6", "--batch-size", "2", "--replies", "2", "--no-measure", "--no-relocate"],
    "irl": ["--tokens", "48", "--batch-size", "2", "--replies", "2"],
    "audit": ["--replies", "2", "--prompts-limit", "12"],
    "reward": [],
}


def commands() -> list[list[str]]:
    blocks = re.findall(r"^```bash\n(.*?)^```", TUTORIAL.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def smaller(words: list[str]) -> list[str]:
    """The same command with fewer steps, without what takes long at its end."""
    for option, value in SMALL.items():
        if option in words:
            words[words.index(option) + 1] = value
    extra = [word for word in QUICK[words[1]] if word not in words or not word.startswith("--no-")]
    return [*words, *extra]


@pytest.mark.slow
def test_every_command_does_what_the_next_one_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, *rest = commands()
    assert first[:3] == ["python", "-m", "safetylayers.tiny.value_rows"]
    write_rows(tmp_path / first[3], count=60)
    ran = set()
    for line in rest:
        # What accelerate launches is launched by it in tests/align/test_two_processes.py.
        words = line[line.index("safetylayers") :]
        result = CliRunner().invoke(app, smaller(words[1:]))
        assert result.exit_code == 0, (words, result.output, result.exception)
        ran.add(words[2])
        assert (tmp_path / words[words.index("-o") + 1]).is_dir()
    assert ran == {"reward", "policy", "irl", "audit"}
