"""What a run minimises on each step. Objectives are told the step's number, draw their own rows by it, and so resume.

constrained   token-weighted constrained fine-tuning (arXiv 2406.05946, section 4)
kl            the rows' likelihood, and nearness to the original model on safety rows: of its replies' distributions, of
              its hidden states at the map's layers, or of both
lisa          steps on safety rows and steps on the user's in turn, each state held near where the other has ended
              (arXiv 2405.18641, section 4)
mix           needs no objective of its own: safety rows stand among the user's rows (arXiv 2309.07875)
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from safetylayers.finetune.data import Collator, Row
from safetylayers.finetune.losses import constrained, displacement, divergence, learnt_logits, likelihood, places
from safetylayers.finetune.methods import Method
from safetylayers.finetune.options import Number

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

Inputs = Mapping[str, Tensor]
ANCHOR = "anchor.safetensors"


class Objective(Protocol):
    """What a run minimises."""

    def loss(self, model: Any, inputs: Inputs, step: int) -> Tensor:
        """Return the loss of a batch of the user's rows at a step, counted from 0."""
        ...

    def save(self, folder: Path) -> None:
        """Write what a resumed run needs into a checkpoint."""
        ...

    def restore(self, folder: Path) -> None:
        """Read it back."""
        ...


class Stateless:
    """An objective that needs nothing from earlier steps."""

    def save(self, folder: Path) -> None:
        """Write nothing."""

    def restore(self, folder: Path) -> None:
        """Read nothing."""


@dataclass(frozen=True)
class SafetyBatches:
    """Safety rows, drawn by a step's number alone."""

    rows: Sequence[Row]
    collator: Collator
    batch_size: int
    seed: int
    device: torch.device

    def draw(self, step: int) -> Inputs:
        """Return a batch for a step."""
        rng = random.Random(f"safety rows {self.seed} {step}")  # noqa: S311 - not a secret
        batch = self.collator(rng.choices(self.rows, k=self.batch_size))
        return {name: tensor.to(self.device) for name, tensor in batch.items()}


@dataclass(frozen=True)
class Constrained(Stateless):
    """Likelihood whose pull ends early where a reply begins."""

    original: ChatModel

    def loss(self, model: Any, inputs: Inputs, step: int) -> Tensor:
        """Return the constrained objective."""
        logits_KV, targets_K = learnt_logits(model, inputs)
        with torch.no_grad():
            original_KV, _ = learnt_logits(self.original.model, inputs)
        now, was = (
            each.log_softmax(-1).gather(-1, targets_K[:, None])[:, 0]
            for each in (logits_KV, original_KV.to(logits_KV.device))
        )
        return constrained(now, was, places(inputs["labels"]).to(now.device))


@dataclass(frozen=True)
class NearOriginal(Stateless):
    """The rows' likelihood, and distance from the original model on safety rows."""

    original: ChatModel
    tuned: ChatModel
    """Whose layers are read; the trained model may be adapters around it."""
    safety: SafetyBatches
    weight: float
    at_outputs: bool
    layers: tuple[int, ...]
    """Where hidden states are compared; empty for not at all."""

    def loss(self, model: Any, inputs: Inputs, step: int) -> Tensor:
        """Return likelihood and weighted distance."""
        return likelihood(model, inputs) + self.weight * self.distance(model, step)

    def distance(self, model: Any, step: int) -> Tensor:
        """Return the distance on a step's safety rows."""
        batch = self.safety.draw(step)
        with torch.no_grad(), _reading(self.original, self.layers) as was:
            original_KV, _ = learnt_logits(self.original.model, batch)
        with _reading(self.tuned, self.layers) as now:
            logits_KV, _ = learnt_logits(model, batch)
        moved = [displacement(now[k], was[k], batch["attention_mask"]) for k in self.layers]
        apart = [divergence(logits_KV, original_KV.to(logits_KV.device))] if self.at_outputs else []
        return torch.stack([*apart, *([torch.stack(moved).mean()] if moved else [])]).sum()


def _reading(model: ChatModel, layers: tuple[int, ...]) -> AbstractContextManager[dict[int, Tensor]]:
    return model.flowing(layers) if layers else nullcontext({})


@dataclass
class Lisa:
    """Two states in turn: some steps on safety rows, then some on the user's rows."""

    safety: SafetyBatches
    safety_steps: int
    user_steps: int
    proximal: float
    _anchor: dict[str, Tensor] = field(default_factory=dict)
    """The trained weights where the other state has ended."""

    def loss(self, model: Any, inputs: Inputs, step: int) -> Tensor:
        """Return the likelihood of the state's rows, and the weighted distance from the anchor."""
        place = step % (self.safety_steps + self.user_steps)
        trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        if place in (0, self.safety_steps) or self._anchor.keys() != trained.keys():
            self._anchor = {name: weight.detach().clone() for name, weight in trained.items()}
        rows = self.safety.draw(step) if place < self.safety_steps else inputs
        apart = [(weight - self._anchor[name].to(weight)).square().sum() for name, weight in trained.items()]
        return likelihood(model, rows) + self.proximal / 2 * torch.stack(apart).sum()

    def save(self, folder: Path) -> None:
        """Write the anchor."""
        from safetensors.torch import save_file

        if self._anchor:
            folder.mkdir(parents=True, exist_ok=True)
            save_file({name: weight.contiguous() for name, weight in self._anchor.items()}, folder / ANCHOR)

    def restore(self, folder: Path) -> None:
        """Read the anchor back; where a kill has lost it, the next step makes a new one."""
        from safetensors.torch import load_file

        if (folder / ANCHOR).exists():
            self._anchor = load_file(folder / ANCHOR)


def make_objective(
    method: Method,
    options: Mapping[str, Number],
    original: ChatModel,
    tuned: ChatModel,
    safety: SafetyBatches | None,
    layers: tuple[int, ...],
) -> Objective | None:
    """Return a method's objective; none where it is the rows' likelihood, the trainer's own."""
    if method.objective == "constrained":
        return Constrained(original)
    if safety is None or method.objective == "mix":
        return None
    if method.objective == "lisa":
        return Lisa(safety, int(options["safety_steps"]), int(options["user_steps"]), float(options["proximal"]))
    at = options["kl_at"]
    return NearOriginal(
        original, tuned, safety, float(options["kl_weight"]), at != "layers", () if at == "outputs" else layers
    )
