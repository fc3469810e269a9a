"""Directions in weight space that lead a broken model back to its refusals: restored = tuned + strength x direction.

The strength is one for the safety layers and another, lesser one for all other weights.

graft   aligned - tuned: weights move back to the original's, and beyond them at strengths above 1
resta   aligned - base, the safety vector; before that, DARE may drop and rescale the update (arXiv 2402.11746)
lox     aligned - base at the layers' projections, each reduced to its leading singular directions (arXiv 2506.15606);
        the paper adds it before fine-tuning, which is what restoring an aligned model does
"""

from __future__ import annotations

import copy
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from safetylayers.errors import UsageError
from safetylayers.finetune.adapters import check_shape
from safetylayers.models import ChatModel, projections

RestoreMethod = Literal["graft", "resta", "lox"]
RESTORE_METHODS: tuple[str, ...] = get_args(RestoreMethod)
Block = tuple[int, int]
"""First and last layer, inclusive."""


@dataclass(frozen=True)
class Workpiece:
    """A copy of the tuned model whose weights are set anew for each candidate; the models given stay as they are."""

    model: ChatModel
    start: Mapping[str, Tensor]
    """The weights that directions are added to: the tuned ones, after DARE where that was asked for."""

    @classmethod
    def of(cls, tuned: ChatModel, aligned: ChatModel, drop: float, seed: int) -> Workpiece:
        """Copy the tuned model; drop a share of its update's entries and rescale the others (arXiv 2311.03099)."""
        work = ChatModel(copy.deepcopy(tuned.model), tuned.tokenizer, name=f"{tuned.name}, restored")
        start = {name: weight.detach() for name, weight in tuned.model.named_parameters()}
        if drop:
            generator = torch.Generator().manual_seed(seed)
            original = dict(aligned.model.named_parameters())
            start = {name: _dropped(weight, original[name], drop, generator) for name, weight in start.items()}
        return cls(work, start)

    def set(self, change: Mapping[str, Tensor]) -> ChatModel:
        """Give the copy the weights start + change."""
        with torch.no_grad():
            for name, weight in self.model.model.named_parameters():
                base = self.start[name]
                weight.copy_(base.float() + change[name] if name in change else base)
        return self.model


def _dropped(weight: Tensor, original: Tensor, drop: float, generator: torch.Generator) -> Tensor:
    update = weight.float() - original.detach().float()
    stays = (torch.rand(update.shape, generator=generator) >= drop).to(update.device)
    return original.detach().float() + update * stays / (1 - drop)


def direction_of(
    method: RestoreMethod, tuned: ChatModel, aligned: ChatModel, base: ChatModel | None, rank: int
) -> dict[str, Tensor]:
    """Return what is added at strength 1: name -> float32 tensor.

    Raises:
        UsageError: the method needs the base model, or the models differ in shape.
    """
    check_shape(aligned, tuned)
    if method == "graft":
        return _difference(aligned, tuned)
    if base is None:
        raise UsageError(
            f"The method {method!r} needs a model without alignment.",
            mend="Give --base: the model before alignment, or one whose alignment was undone.",
        )
    check_shape(base, aligned)
    change = _difference(aligned, base)
    if method == "resta":
        return change
    return {name: _leading(change[name], rank) for name in weights_of(aligned, (0, aligned.n_layers - 1))}


def scaled(
    direction: Mapping[str, Tensor], inside: Container[str], strength: float, elsewhere: float
) -> dict[str, Tensor]:
    """Return strength x direction for the weights inside the safety layers, elsewhere x direction for all others."""
    factors = {name: strength if name in inside else elsewhere for name in direction}
    return {name: factors[name] * each for name, each in direction.items() if factors[name]}


def _difference(model: ChatModel, other: ChatModel) -> dict[str, Tensor]:
    theirs = dict(other.model.named_parameters())
    return {
        name: weight.detach().float() - theirs[name].detach().float() for name, weight in model.model.named_parameters()
    }


def weights_of(model: ChatModel, block: Block) -> dict[str, nn.Parameter]:
    """Return the projections of a block of layers, by their names."""
    inside = {id(p) for layer in model.layers[block[0] : block[1] + 1] for p in projections(layer).values()}
    return {name: weight for name, weight in model.model.named_parameters() if id(weight) in inside}


def _leading(change: Tensor, rank: int) -> Tensor:
    """Return the projection of a matrix, or of each of a stack, onto its `rank` leading left singular vectors."""
    left, _, _ = torch.linalg.svd(change, full_matrices=False)
    left = left[..., :rank]
    projected: Tensor = left @ (left.mT @ change)
    return projected


def length(direction: Mapping[str, Tensor]) -> float:
    """Return the length of a direction over all its tensors."""
    return float(sum(float(each.detach().square().sum()) for each in direction.values()) ** 0.5)
