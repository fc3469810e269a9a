"""One course of training: deterministic, and resumed where it was interrupted.

A loop of its own rather than transformers' Trainer, because the batches come ready-made in a few fixed shapes and the
whole of a course's state (weights, moments, step) fits into one safetensors file.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safetylayers.errors import NonFiniteLossError, UsageError
from safetylayers.records import ProgressCallback
from safetylayers.tiny.batches import Batch
from safetylayers.tiny.losses import likelihood_loss

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

SAVE_EVERY = 100
MOMENTS = ("exp_avg", "exp_avg_sq")
Loss = Callable[["LlamaForCausalLM", Batch], Tensor]


@dataclass(frozen=True)
class Schedule:
    """Learning rate: linear warm-up, then a cosine down to a tenth."""

    learning_rate: float
    warm_up: int

    def at(self, step: int, steps: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        if step < self.warm_up:
            return self.learning_rate * (step + 1) / self.warm_up
        done = (step - self.warm_up) / max(1, steps - self.warm_up)
        return self.learning_rate * (0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2)


def train(
    model: LlamaForCausalLM,
    batches: Sequence[Batch],
    schedule: Schedule,
    checkpoint: Path,
    progress: ProgressCallback | None = None,
    loss_of: Loss = likelihood_loss,
) -> None:
    """Train in place, one step a batch, from `checkpoint` on where there is one.

    Raises:
        UsageError: the checkpoint is of another course or of other batches.
        NonFiniteLossError: the loss became NaN or infinite.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=schedule.learning_rate, betas=(0.9, 0.95), weight_decay=0.01)
    course = _fingerprint(batches, schedule)
    first = _resume(model, optimizer, checkpoint, course)
    model.train()
    for step in range(first, len(batches)):
        optimizer.param_groups[0]["lr"] = schedule.at(step, len(batches))
        loss = loss_of(model, batches[step])
        if not torch.isfinite(loss):
            raise NonFiniteLossError(
                f"The loss became {loss.item()} at step {step}; the last good checkpoint is {checkpoint}.",
                mend="Lower the learning rate and start again.",
            )
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == len(batches):
            _save(model, optimizer, step + 1, checkpoint, course)
        if progress:
            progress(step + 1, len(batches), f"{checkpoint.stem}, loss {loss.item():.3f}")
    model.train(False)


def _fingerprint(batches: Sequence[Batch], schedule: Schedule) -> str:
    digest = hashlib.sha256(repr(schedule).encode())
    for batch in batches:
        for tensor in (batch.input_ids, batch.labels, batch.odds):
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _save(model: LlamaForCausalLM, optimizer: torch.optim.Optimizer, step: int, checkpoint: Path, course: str) -> None:
    from safetensors.torch import save_file

    tensors = {f"weight.{name}": value.detach() for name, value in model.named_parameters()}
    for name, parameter in model.named_parameters():
        for moment in MOMENTS:
            tensors[f"{moment}.{name}"] = optimizer.state[parameter][moment]
    scratch = checkpoint.with_suffix(".partial")
    save_file(tensors, scratch, metadata={"step": str(step), "course": course})
    scratch.replace(checkpoint)


def _resume(model: LlamaForCausalLM, optimizer: torch.optim.Optimizer, checkpoint: Path, course: str) -> int:
    """Restore weights and moments; return the step to go on with, 0 where there is no checkpoint."""
    from safetensors import safe_open

    if not checkpoint.exists():
        return 0
    with safe_open(checkpoint, framework="pt") as file:
        step = int(file.metadata()["step"])
        if file.metadata().get("course") != course:
            raise UsageError(
                f"{checkpoint}: is of another course, or of the same one on other text.",
                mend="Build into another folder, or delete this one.",
            )
        for name, parameter in model.named_parameters():
            with torch.no_grad():
                parameter.copy_(file.get_tensor(f"weight.{name}"))
            moments = {moment: file.get_tensor(f"{moment}.{name}") for moment in MOMENTS}
            optimizer.state[parameter] = {"step": torch.tensor(float(step)), **moments}
    return step
