"""The whole loss of a step: the sum of the method's parts, and the utility data's."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from safetylayers.finetune.losses import constrained, divergence
from safetylayers.harden.direct import CircuitBreaker, DeepAlignment, RefusalFeature
from safetylayers.harden.laying import Laid, lay
from safetylayers.harden.methods import Method
from safetylayers.harden.pressure import Embeddings, Latent
from safetylayers.harden.step import Part, Run, Step
from safetylayers.harden.suffixes import Discrete, SuffixOptimiser
from safetylayers.records import write_text

STATE = "objective.json"
GROUP = 8
"""Utility rows that are read together."""


def make_parts(method: Method, optimiser: SuffixOptimiser | None = None) -> list[Part]:
    """Return a method's parts; `optimiser` is for suffixes."""
    discrete = Discrete(optimiser) if optimiser else Discrete()
    known: Sequence[Part] = (
        DeepAlignment(), Latent(), Embeddings(), discrete, CircuitBreaker(), RefusalFeature()
    )  # fmt: skip
    by_name = {part.name: part for part in known}
    return [by_name[name] for name in method.parts]


@dataclass
class Objective:
    """What is minimised: an objective of `finetune.trainer.make_trainer`."""

    run: Run
    parts: Sequence[Part]
    seconds: float = 0.0
    """From step to step, those before an interruption included."""
    losses: list[dict[str, float]] = field(default_factory=list)
    """Part -> its loss, "retain" among them, step by step."""
    _then: float | None = None

    def loss(self, model: Any, inputs: Any, step: int) -> Tensor:
        """Return the loss of a step, with gradients."""
        del model, inputs
        now = time.perf_counter()
        self.seconds += now - (now if self._then is None else self._then)
        self._then = now
        drawn = Step.of(self.run, step)
        found = {part.name: part.loss(drawn) for part in self.parts}
        if self.run.method.parts != ("circuit-breaker",):  # which holds utility rows by their representations
            found["retain"] = self.run.settings.retain_weight * retain_loss(drawn)
        self.losses.append({name: float(loss.detach()) for name, loss in found.items()})
        return torch.stack(list(found.values())).sum()

    def last_losses(self) -> dict[str, float]:
        """Return each part's mean loss over the last tenth of the steps."""
        last = self.losses[-max(1, len(self.losses) // 10) :]
        return {name: sum(entry[name] for entry in last) / len(last) for name in last[-1]}

    def save(self, folder: Path) -> None:
        """Write what a resumed run needs into a checkpoint."""
        suffixes = {part.name: part.state() for part in self.parts if isinstance(part, Discrete)}
        known = {"seconds": self.seconds, "losses": self.losses, "parts": suffixes}
        write_text(folder / STATE, json.dumps(known))

    def restore(self, folder: Path) -> None:
        """Read it back."""
        known = json.loads((folder / STATE).read_text("utf-8"))
        self.seconds, self.losses = known["seconds"], known["losses"]
        for part in self.parts:
            if isinstance(part, Discrete):
                part.restore(known["parts"][part.name])


def retain_loss(step: Step) -> Tensor:
    """Return how far the replies to utility rows have moved from the original model's, a token in the mean.

    Rows of like length go together, so that little is computed for padding.
    """
    rows = sorted(step.draw_retain(), key=lambda row: len(row.asked) + len(row.reply))
    groups = [
        lay([(row.asked, [], row.reply) for row in rows[start : start + GROUP]], step.student)
        for start in range(0, len(rows), GROUP)
    ]
    counts = [int(laid.learnt_BR.sum()) for laid in groups]
    losses = [_moved(step, laid) * count for laid, count in zip(groups, counts, strict=True)]
    return torch.stack(losses).sum() / sum(counts)


def _moved(step: Step, laid: Laid) -> Tensor:
    if step.run.settings.retain_loss == "constrained":
        with step.run.models.original() as original:
            before_BR = laid.logprobs(original)
        learnt_BR = laid.learnt_BR
        places_K = learnt_BR.cumsum(dim=1)[learnt_BR]
        return constrained(laid.logprobs(step.student)[learnt_BR], before_BR[learnt_BR], places_K)
    with step.run.models.original() as original:
        before_KV = laid.logits(original)
    return divergence(laid.logits(step.student), before_KV)
