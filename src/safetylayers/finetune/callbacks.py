"""What watches a run: progress, and the loss."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from safetylayers.errors import NonFiniteLossError
from safetylayers.records import ProgressCallback


def last_checkpoint(folder: Path) -> str | None:
    """Return the newest complete checkpoint in a folder; one that a kill cut short is passed over."""
    found = [path for path in folder.glob("checkpoint-*") if path.name[11:].isdigit() and _is_complete(path)]
    return str(max(found, key=lambda path: int(path.name[11:]))) if found else None


def losses_before(folder: Path) -> list[float]:
    """Return the losses of all steps up to the newest complete checkpoint; none where there is none."""
    last = last_checkpoint(folder)
    if last is None:
        return []
    state = json.loads((Path(last) / "trainer_state.json").read_text("utf-8"))
    return [entry["loss"] for entry in state["log_history"] if "loss" in entry]


def _is_complete(checkpoint: Path) -> bool:
    """Whether the trainer's state is there and whole: it is what a trainer writes last."""
    try:
        json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return True


class TellProgress(TrainerCallback):
    """Tells of every step."""

    def __init__(self, progress: ProgressCallback, what: str) -> None:
        """Take whom to tell, and what the run is called."""
        self.progress, self.what = progress, what

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Tell."""
        self.progress(state.global_step, state.max_steps, self.what)


class StopAtNaN(TrainerCallback):
    """Ends a run whose loss or gradient is no longer a number, before that enters a checkpoint."""

    def __init__(self, folder: Path) -> None:
        """Take the folder of the checkpoints."""
        self.folder = folder

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look at the step's loss and gradient norm. Raises NonFiniteLossError."""
        logs: dict[str, float] = kwargs["logs"]
        for name in ("loss", "grad_norm"):
            if not math.isfinite(logs.get(name, 0.0)):
                good = last_checkpoint(self.folder)
                raise NonFiniteLossError(
                    f"The {name} became {logs[name]} at step {state.global_step}; "
                    + (f"the last good checkpoint is {good}." if good else "there is no checkpoint yet."),
                    mend="Look for odd rows in the data, or lower the learning rate, and train into another folder.",
                )
