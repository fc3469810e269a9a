"""What one training step has in hand: the two models, rows that are drawn for it alone, and its share of the schedule.

A step's draws depend on the seed and its number and on nothing before, so a resumed run draws the same.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from safetylayers.harden.laying import Laid, Pieces
from safetylayers.harden.losses import away, toward
from safetylayers.harden.material import HarmfulRow, Material, RetainRow
from safetylayers.harden.methods import Method
from safetylayers.harden.settings import HardenSettings

if TYPE_CHECKING:
    from safetylayers.models import ChatModel


@dataclass(frozen=True)
class Pair:
    """The model in training, and the model as it was."""

    student: ChatModel
    reference: ChatModel | None
    """A frozen copy; none where adapters are trained, for then the model without them is the original."""
    adapters: Any = None

    @contextmanager
    def original(self) -> Iterator[ChatModel]:
        """Within the block, give the original model, without gradients."""
        with torch.no_grad():
            if self.reference is not None:
                yield self.reference
            else:
                with self.adapters.disable_adapter():
                    yield self.student


@dataclass(frozen=True)
class Run:
    """What all steps share."""

    models: Pair
    material: Material
    method: Method
    settings: HardenSettings
    layers: dict[str, tuple[int, ...]]
    """Part of the method -> where it acts."""
    seed: int


@dataclass(frozen=True)
class Step:
    """One step."""

    run: Run
    number: int
    rng: random.Random

    @classmethod
    def of(cls, run: Run, number: int) -> Step:
        """Return a step by its number, from 0."""
        return cls(run, number, random.Random(f"{run.seed} {number}"))  # noqa: S311 - not a secret

    @property
    def done(self) -> float:
        """Share of the training that is over."""
        return self.number / self.run.settings.steps

    @property
    def student(self) -> ChatModel:
        """The model in training."""
        return self.run.models.student

    def generator(self) -> torch.Generator:
        """Return a generator of random tensors, on the CPU."""
        return torch.Generator().manual_seed(self.rng.getrandbits(48))

    def draw_harmful(self) -> list[HarmfulRow]:
        """Draw a batch of harmful rows."""
        return self.rng.choices(self.run.material.harmful, k=self.run.settings.batch_size)

    def draw_retain(self) -> list[RetainRow]:
        """Draw a batch of utility rows."""
        return self.rng.choices(self.run.material.retain, k=self.run.settings.retain_batch_size)

    def refusing(self, row: HarmfulRow, extra: Sequence[int] = ()) -> Pieces:
        """Return a row to refuse, behind a compliant beginning if the method has them.

        Args:
            row: the request.
            extra: tokens that stand behind it.
        """
        return row.before + list(extra) + row.after, self._prefix(row), row.refusal

    def complying(self, row: HarmfulRow, extra: Sequence[int] = ()) -> Pieces:
        """Return a row that begins to comply: what adversaries want and training moves away from.

        Args:
            row: the request.
            extra: tokens that stand behind it.
        """
        wanted = row.compliant[: self.run.settings.compliant_tokens]
        return row.before + list(extra) + row.after, [], wanted

    def _prefix(self, row: HarmfulRow) -> list[int]:
        """Return the first tokens of compliant replies, strung together until they are long enough."""
        settings = self.run.settings
        if not self.run.method.prefixes or self.rng.random() < settings.without_prefix:
            return []
        wanted = round(settings.longest_prefix ** self.rng.random())  # short ones open the door, so they come often
        prefix = list(self.rng.choice((row.compliant, *self.run.material.openings)))
        while len(prefix) < wanted:
            prefix += self.rng.choice(self.run.material.openings)
        return prefix[:wanted]


def resist(step: Step, both: Laid) -> Tensor:
    """Return the loss of saying refusals and not compliant replies.

    Args:
        step: whose model and weights.
        both: refusing rows, and below them as many complying ones.
    """
    settings, half = step.run.settings, len(both.batch) // 2
    logprobs_BR = both.logprobs(step.student)
    loss = settings.toward * toward(logprobs_BR[:half], both.learnt_BR[:half])
    return loss + settings.away * away(logprobs_BR[half:], both.learnt_BR[half:])


class Part(Protocol):
    """One part of a method: its loss on a step."""

    @property
    def name(self) -> str:
        """How methods and logs call it."""
        ...

    def loss(self, step: Step) -> Tensor:
        """Return the loss, with gradients."""
        ...
