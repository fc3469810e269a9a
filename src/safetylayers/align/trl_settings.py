"""What all of TRL's trainers take alike, on one process and on several."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from safetylayers.errors import UsageError
from safetylayers.finetune.trainer import WARM_UP

if TYPE_CHECKING:
    from safetylayers.models import ChatModel


def processes() -> int:
    """Return how many processes train together: what `accelerate launch` and `torchrun` say."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Return which of them this is, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return rank() == 0


def trl_settings(
    model: ChatModel, folder: Path, *, learning_rate: float, steps: int, rows: int, save_every: int, seed: int
) -> dict[str, Any]:
    """Return a run's settings.

    Args:
        model: that is trained.
        folder: of the checkpoints.
        learning_rate: the highest; it rises over the first steps and then falls to zero.
        steps: of training.
        rows: a step, over all processes together.
        save_every: steps between checkpoints.
        seed: of the order of rows.

    Raises:
        UsageError: the rows cannot be shared out evenly.
    """
    check_rows(rows)
    return {
        "output_dir": str(folder),
        "learning_rate": learning_rate,
        "max_steps": steps,
        "per_device_train_batch_size": rows // processes(),
        "save_steps": save_every,
        "save_total_limit": 2,
        "warmup_steps": WARM_UP,
        "lr_scheduler_type": "linear",
        "weight_decay": 0.0,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "seed": seed,
        "data_seed": seed,
        "bf16": model.device.type == "cuda" and model.dtype == torch.bfloat16,
        "use_cpu": model.device.type == "cpu",
        "gradient_checkpointing": None,  # TRL turns it on; False is a name that transformers is about to drop
        "dataloader_pin_memory": False,
        "report_to": "none",
        "disable_tqdm": True,
    }


def check_rows(rows: int) -> None:
    """Raise UsageError where a step's rows cannot be shared out evenly between the processes."""
    if rows % processes():
        raise UsageError(
            f"{rows} rows a step cannot be shared by {processes()} processes.", mend="Use a multiple for --batch-size."
        )


def gathered(trainer: Any, trained: Any, fresh: Callable[[], Any]) -> Any:
    """Return the trained model with all its weights; of processes that hold a part each (FSDP), the first has them.

    Args:
        trainer: after training.
        trained: its model.
        fresh: makes a model of the same names and shapes, to put the parts into.
    """
    if str(trainer.accelerator.distributed_type) != "DistributedType.FSDP":
        return trained
    state = trainer.accelerator.get_state_dict(trainer.model)  # every process takes part, and the first gets it
    if not is_first():
        return trained
    whole = fresh()
    # TRL keeps a second, frozen set of adapters as the reference.
    whole.load_state_dict({name: tensor for name, tensor in state.items() if ".ref." not in name})
    return whole
