"""Low-rank adapters, and Safe LoRA: merged updates projected onto the subspace of alignment (arXiv 2405.16833)."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from safetylayers.errors import UsageError
from safetylayers.models import projections
from safetylayers.models.structure import linear_modules

if TYPE_CHECKING:
    from safetylayers.models import ChatModel


def with_adapters(model: ChatModel, held: Collection[int], rank: int, seed: int) -> Any:
    """Put low-rank adapters beside every linear projection outside the layers that are held still."""
    from peft import LoraConfig, get_peft_model
    from transformers import set_seed

    set_seed(seed)
    modules = {id(m) for k, layer in enumerate(model.layers) if k not in held for _, m in linear_modules(layer)}
    targets = [name for name, module in model.model.named_modules() if id(module) in modules]
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets, task_type="CAUSAL_LM")
    return get_peft_model(model.model, config)


def alignment_projector(aligned: Tensor, base: Tensor) -> Tensor:
    """Return C = V V^T / |V|, V = aligned - base, |V| its Frobenius norm: [out, out] (section 3.2, the fast form)."""
    change = aligned.float() - base.float()
    projector: Tensor = change @ change.mT / change.norm().clamp(min=1e-12)
    return projector


def project_updates(tuned: ChatModel, aligned: ChatModel, base: ChatModel, below: float) -> tuple[str, ...]:
    """Replace updates that point away from alignment by their projection, in place; return the names of those.

    Args:
        tuned: the fine-tuned model, adapters merged.
        aligned: the model that was fine-tuned.
        base: the same model before alignment.
        below: an update whose cosine similarity to its own projection is less is replaced.

    Raises:
        UsageError: the base model has another shape.
    """
    check_shape(base, aligned)
    projected = []
    for index, layers in enumerate(zip(tuned.layers, aligned.layers, base.layers, strict=True)):
        now, was, before = (projections(layer) for layer in layers)
        for name, weight in now.items():
            update = weight.detach().float() - was[name].detach().float()
            if not update.any():
                continue
            kept = alignment_projector(was[name].detach(), before[name].detach()) @ update
            if torch.cosine_similarity(update.flatten(), kept.flatten(), dim=0) < below:
                with torch.no_grad():
                    weight.copy_(was[name] + kept)
                projected.append(f"{index}.{name}")
    return tuple(projected)


def check_shape(other: ChatModel, model: ChatModel) -> None:
    """Make sure that two models have the same weights by name and shape. Raises UsageError."""
    ours, theirs = (
        {name: tuple(weight.shape) for name, weight in each.model.named_parameters()} for each in (model, other)
    )
    if ours != theirs:
        raise UsageError(
            f"{other.name} is not of the shape of {model.name}.",
            mend="Give the model that this one was made from: same architecture, sizes and vocabulary.",
        )
