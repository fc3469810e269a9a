"""Gradients through a model whose multipliers count as constants: conservative propagation (arXiv 2202.07304).

What a norm divides by (the LN rule), how attention mixes (the AH rule) and how far an MLP's gates are open say how
strongly each input counts; their own gradients, which say how that would change, drown it. With all three held, a model
without biases and routers is linear in its embeddings, and gradient x embedding adds up to its logits. They are held on
this model alone, for a block; what the model computes stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from safetylayers.models.attention_backend import Attend, handled, layers_with_attention
from safetylayers.models.structure import expert_modules, linear_modules

if TYPE_CHECKING:
    from safetylayers.models import ChatModel


@contextmanager
def held(model: ChatModel) -> Iterator[None]:
    """Within the block, gradients pass norms' scales, attention's patterns and MLPs' gates as constants.

    Where attention does not go through transformers' interface, its patterns are not held; nor is a gate that is worked
    out without a module of its own (GptOss).

    Raises:
        UsageError: the model's attention is being recorded, or is of a kind that cannot be handled.
    """
    with (
        norms_held(model),
        gates_held(model),
        handled(model, dict.fromkeys(layers_with_attention(model), _without_pattern)),
    ):
        yield


def _without_pattern(
    attend: Attend,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    options: Mapping[str, Any],
) -> tuple[Tensor, Tensor | None]:
    """Attend with a pattern that gradients do not see: they flow through the values alone."""
    return attend(module, query.detach(), key.detach(), value, mask, **options)


@contextmanager
def norms_held(model: ChatModel) -> Iterator[None]:
    """Within the block, gradients pass each norm as if what it divides by did not depend on its input."""
    with ExitStack() as stack:
        for module in model.model.modules():
            if _is_norm(module):
                stack.callback(module.register_forward_hook(_held(isinstance(module, nn.LayerNorm))).remove)
        yield


@contextmanager
def gates_held(model: ChatModel) -> Iterator[None]:
    """Within the block, gradients pass gated MLPs as if their gates did not depend on their input."""
    with ExitStack() as stack:
        for part in (part for layer in model.layers for part in layer.children() if _is_gated(part, model.hidden_size)):
            for module in filter(_is_activation, part.modules()):
                stack.callback(module.register_forward_hook(_detached).remove)
        yield


def _is_gated(part: nn.Module, size: int) -> bool:
    """Whether a part of a layer multiplies an activation with something else: it reads twice as much as it writes from.

    Fused experts all do so.
    """
    linears = [linear for _, linear in linear_modules(part)]
    read = sum(linear.out_features for linear in linears if linear.in_features == size)
    return any(expert_modules(part)) or any(
        read == 2 * each.in_features for each in linears if each.out_features == size
    )


def _is_activation(module: nn.Module) -> bool:
    return type(module).__module__ in ("torch.nn.modules.activation", "transformers.activations")


def _detached(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    return output.detach()


def _is_norm(module: nn.Module) -> bool:
    """Whether a module divides by its input's size; transformers' RMSNorms have nothing in common but their names."""
    return isinstance(module, nn.LayerNorm | nn.RMSNorm) or type(module).__name__.endswith(("RMSNorm", "LayerNorm"))


def _held(centred: bool) -> Callable[..., Tensor]:
    """Return the hook of a norm, which is linear once its scale is held: (x - its mean, if centred) x scale + bias."""

    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        given: Tensor = inputs[0]
        bias = getattr(module, "bias", None)
        line = given - given.mean(-1, keepdim=True) if centred else given
        with torch.no_grad():
            plain = output if bias is None else output - bias
            scale = torch.where(line == 0, torch.zeros_like(line), plain / line)
        linear = line * scale
        return output.detach() + (linear - linear.detach())

    return hook
