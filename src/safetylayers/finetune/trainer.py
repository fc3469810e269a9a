"""Transformers' Trainer with one of our objectives, and the errors that a run may end with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainingArguments

from safetylayers.errors import OutputError, TrainingError
from safetylayers.finetune.callbacks import last_checkpoint
from safetylayers.finetune.objectives import Objective

WARM_UP = 0.05
"""Share of the steps over which the learning rate rises."""


class ObjectiveTrainer(Trainer):
    """Asks an objective for each step's loss, and keeps what the objective remembers in every checkpoint."""

    def __init__(self, objective: Objective, **settings: Any) -> None:
        """Take the objective; everything else is Trainer's."""
        self.objective: Objective = objective
        super().__init__(**settings)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Return the loss of the step that the trainer is at."""
        del return_outputs, num_items_in_batch
        return self.objective.loss(model, inputs, self.state.global_step)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save; what the objective remembers goes first: the trainer's state, which goes last, makes it whole."""
        if output_dir is not None:
            self.objective.save(Path(output_dir))
        super().save_model(output_dir, _internal_call)


def make_trainer(
    model: Any, rows: list[Any], collator: Any, folder: Path, callbacks: list[Any], objective: Objective | None,
    **settings: Any,
) -> Trainer:  # fmt: skip
    """Return a trainer; without an objective, it minimises the model's own loss."""
    arguments = TrainingArguments(
        output_dir=str(folder),
        data_seed=settings["seed"],
        warmup_steps=WARM_UP,
        lr_scheduler_type="linear",
        weight_decay=0.0,
        logging_steps=1,
        save_strategy="steps",
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,
        use_cpu=model.device.type == "cpu",
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        logging_nan_inf_filter=False,
        **settings,
    )
    given: dict[str, Any] = {
        "model": model, "args": arguments, "train_dataset": rows, "data_collator": collator, "callbacks": callbacks,
    }  # fmt: skip
    trainer = ObjectiveTrainer(objective, **given) if objective else Trainer(**given)
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    return trainer


def run_trainer(trainer: Trainer, folder: Path, resume: bool) -> float:
    """Train; return the mean loss of all steps, those before an interruption included.

    Raises:
        OutputError: a checkpoint cannot be written.
        TrainingError: the trainer refuses its settings.
    """
    from safetensors import SafetensorError

    last = last_checkpoint(folder) if resume else None
    if last and isinstance(trainer, ObjectiveTrainer):
        trainer.objective.restore(Path(last))
    try:
        trainer.train(resume_from_checkpoint=last)
        losses: list[float] = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        return sum(losses) / len(losses)
    except (OSError, SafetensorError, RuntimeError) as error:
        # torch tells of a full disk by a RuntimeError of its archive writer.
        if isinstance(error, RuntimeError) and not any(w in str(error) for w in ("inline_container", "StreamWriter")):
            raise
        raise OutputError(
            f"{folder}: the run cannot be saved ({getattr(error, 'strerror', None) or error}).",
            mend="Free some room and run the same command again: it goes on from the last checkpoint.",
        ) from error
    except ValueError as error:
        raise TrainingError(f"The run cannot start: {error}", mend="Look at the settings named there.") from error
