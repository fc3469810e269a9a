"""The adversary within training: it moves what the model computes of a prompt until a compliant reply is likely.

Projected gradient descent with sign steps (arXiv 1706.06083) on the outputs of modules: decoder layers for latent
adversarial training (2407.15549, section 3), the embeddings for continuous adversarial training (2405.15589, section
3). Free tokens are bounded by nothing, like those of the attack on embeddings (2402.09063).

Shapes: B rows, P prompt columns, H hidden size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from safetylayers.harden.laying import Laid
from safetylayers.harden.losses import toward
from safetylayers.models.interventions import captured, changed_output

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

OVERSHOOT = 2.5
"""The steps together are so many times the radius long, so that the bound can be reached from within."""


@dataclass(frozen=True)
class Place:
    """A module whose output is moved, and how far."""

    module: nn.Module
    radius_BP1: Tensor
    """Longest move of each token, 0 where it has to stay, infinite where it is free."""
    reach_BP1: Tensor
    """How far all steps together may carry a coordinate."""


def bounded_place(module: nn.Module, size: float, share: float, open_BP: Tensor, width: int) -> Place:
    """Return a place whose open tokens may move by a share of the usual norm.

    Args:
        module: whose output is moved.
        size: mean norm of a token there.
        share: of it.
        open_BP: which tokens may be moved.
        width: H.
    """
    radius_BP1 = open_BP[..., None].float() * (size * share)
    return Place(module, radius_BP1, radius_BP1 * (OVERSHOOT / math.sqrt(width)))


def usual_sizes(model: ChatModel, modules: Sequence[nn.Module], laid: Laid) -> list[float]:
    """Return the mean norm of the prompts' tokens at the outputs of modules."""
    real_BP = laid.prompts
    with torch.no_grad(), captured(modules, range(len(modules)), lambda hidden: hidden) as found:
        model.logits(laid.batch, last=1)
    norms = [found[k][:, : laid.prompt_width].float().norm(dim=-1) for k in range(len(modules))]
    return [float(norm_BP[real_BP.to(norm_BP.device)].mean()) for norm_BP in norms]


def worst_case(
    model: ChatModel, compliant: Laid, places: Sequence[Place], steps: int, generator: torch.Generator
) -> list[Tensor]:
    """Return a move for each place under which the compliant replies are as likely as the steps can make them.

    Args:
        model: its own parameters gather no gradient.
        compliant: prompts with the replies that the adversary wants.
        places: what it may move.
        steps: of gradient descent.
        generator: on the CPU; the moves start from small random ones.

    Returns:
        [B, P, H] for each place, within its radius.
    """
    width = model.hidden_size
    moves = [_start(place, width, generator) for place in places]
    for _ in range(steps):
        moves = [move.requires_grad_(True) for move in moves]
        with moved(places, moves):
            loss = toward(compliant.logprobs(model), compliant.learnt_BR)
        gradients = torch.autograd.grad(loss, moves)
        moves = [
            _project(move.detach() - place.reach_BP1 / steps * gradient.sign(), place.radius_BP1)
            for place, move, gradient in zip(places, moves, gradients, strict=True)
        ]
    return moves


def _start(place: Place, width: int, generator: torch.Generator) -> Tensor:
    noise = torch.randn(*place.radius_BP1.shape[:2], width, generator=generator).to(place.radius_BP1.device)
    return _project(noise * place.reach_BP1 / 10, place.radius_BP1)


def _project(move_BPH: Tensor, radius_BP1: Tensor) -> Tensor:
    """Shorten moves that are longer than their radius; one of a radius of 0 is 0."""
    norm_BP1 = move_BPH.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    shortened: Tensor = move_BPH * (radius_BP1 / norm_BP1).clamp(max=1.0)
    return shortened


@contextmanager
def moved(places: Sequence[Place], moves: Sequence[Tensor]) -> Iterator[None]:
    """Within the block, what the places give at the prompts' columns is moved; a batch of n x B rows, n times over."""
    with ExitStack() as stack:
        for place, move in zip(places, moves, strict=True):
            stack.enter_context(changed_output(place.module, _Added(move)))
        yield


@dataclass(frozen=True)
class _Added:
    move_BPH: Tensor

    def __call__(self, output: Tensor) -> Tensor:
        rows, columns, _ = output.shape
        times, given = rows // self.move_BPH.shape[0], self.move_BPH.shape[1]
        move = self.move_BPH.to(output).repeat(times, 1, 1)
        return output + torch.nn.functional.pad(move, (0, 0, 0, columns - given))
