"""What a run was asked to do, kept beside its checkpoints, so that no other run goes on from them."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

from pydantic import Field

from safetylayers.errors import UsageError
from safetylayers.records import Record

PLAN = "plan.json"


class Plan(Record):
    """Everything that decides a run's weights."""

    method: str
    scope: str
    frozen_layers: tuple[int, int] | None
    learning_rate: float
    epochs: float
    max_steps: int | None
    batch_size: int
    max_length: int
    lora_rank: int
    seed: int
    dtype: str
    model_hash: str
    data_hash: str
    options: dict[str, float | int | str] = Field(default_factory=dict)
    """What only this method takes."""
    safety_hash: str = ""
    """Of the safety rows, where the method has some."""
    base_hash: str = ""
    """Of the base model, where the method needs it."""


def check_settings(
    learning_rate: float, epochs: float, max_steps: int | None, batch_size: int, lora_rank: int, save_every: int
) -> None:
    """Refuse numbers that make no sense. Raises UsageError."""
    for name, value, example in (("learning rate", learning_rate, "1e-4"), ("number of epochs", epochs, "3")):
        if not (math.isfinite(value) and value > 0):
            raise UsageError(f"A {name} of {value} makes no sense.", mend=f"Use one above 0, such as {example}.")
    counts = {"max_steps": max_steps, "batch_size": batch_size, "lora_rank": lora_rank, "save_every": save_every}
    for name, count in counts.items():
        if count is not None and count < 1:
            raise UsageError(f"{name} of {count} makes no sense.", mend="Use 1 or more.")


def claim(output: Path, plan: Record, *, resume: bool, name: str = PLAN, what: str = "fine-tuning") -> None:
    """Make a folder a run's.

    Without `resume`, an earlier run's checkpoints and result are removed: their steps could pass for this run's.

    Args:
        output: the folder.
        plan: everything that decides the run's weights.
        resume: go on from an earlier run of the same plan.
        name: of the plan's file in it.
        what: the kind of run, for messages.

    Raises:
        UsageError: it holds another run, or files that are not such a run's and would be written over.
        OutputError: it cannot be written to.
    """
    # Of several processes another one may be about to write the plan: through a file of this name behind a dot.
    there = output.is_dir() and any(not path.name.startswith(f".{name}") for path in output.iterdir())
    if there and not (output / name).exists():
        raise UsageError(
            f"{output}: holds files that are not from a {what} run.",
            mend="Choose a new or an empty folder with -o.",
        )
    if not resume:
        shutil.rmtree(output / "checkpoints", ignore_errors=True)
        (output / "result.json").unlink(missing_ok=True)
    elif (output / name).exists():
        _compare(output, type(plan).read(output / name), plan)
    plan.write(output / name)


def _compare(output: Path, old: Record, new: Record) -> None:
    was, now = old.model_dump(), new.model_dump()
    if changed := [f"{name} was {was[name]}, is {now[name]}" for name in was if was[name] != now[name]]:
        raise UsageError(
            f"{output}: holds another run ({'; '.join(changed)}).",
            mend="Choose another folder, or run that one again as it was.",
        )
