"""Decoder layers and their projections, found by structure and never by a family's name.

Decoder layers are the one list of modules that is as long as the text model is deep and whose members all hold
projections of the hidden state. Projections are the matrices of a layer that act on hidden states: weights of linear
modules and fused experts (three dimensions). Routers choose experts and are no projections; neither are biases, norms
and sinks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import nn

from safetylayers.errors import UnknownArchitectureError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


def text_config(model: PreTrainedModel) -> PreTrainedConfig:
    """Return the configuration of the part that writes text."""
    return model.config.get_text_config(decoder=True)


def find_decoder_layers(model: PreTrainedModel) -> tuple[nn.Module, ...]:
    """Return the decoder layers, first to last.

    Raises:
        UnknownArchitectureError: no list of modules, or more than one, has their structure.
    """
    depth = getattr(text_config(model), "num_hidden_layers", None)
    backbone: nn.Module = model.get_decoder()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    lists = [module for module in backbone.modules() if isinstance(module, nn.ModuleList)]
    found = [stack for stack in lists if len(stack) == depth and all(any(projections(layer)) for layer in stack)]
    # Experts of one layer may be as many as there are layers; the stack itself is the outermost list.
    outermost = [stack for stack in found if not any(stack is not other and _within(stack, other) for other in found)]
    if len(outermost) != 1:
        raise UnknownArchitectureError(
            f"{type(model).__name__}: {len(outermost)} lists of {depth} modules look like decoder layers.",
            mend="safetylayers needs a decoder-only model in transformers' form; see its page in docs/errors.",
        )
    return tuple(outermost[0])


def _within(inner: nn.Module, outer: nn.Module) -> bool:
    return any(module is inner for module in outer.modules())


def projections(layer: nn.Module) -> dict[str, nn.Parameter]:
    """Return the attention and MLP projection weights of a decoder layer, by their names within it."""
    found: dict[str, nn.Parameter] = {}
    for name, linear in linear_modules(layer):
        found[f"{name}.weight"] = linear.get_parameter("weight")
    for name, experts in expert_modules(layer):
        for key, parameter in experts.named_parameters(recurse=False):
            if parameter.dim() == 3:
                found[f"{name}.{key}"] = parameter
    return found


def linear_modules(layer: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """Yield the linear projections of a layer, routers left out."""
    for name, module in layer.named_modules():
        if isinstance(module, nn.Linear) and not _is_router(module, layer):
            yield name, module


def expert_modules(layer: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules that hold many experts' projections fused into tensors of three dimensions."""
    for name, module in layer.named_modules():
        if any(parameter.dim() == 3 for parameter in module.parameters(recurse=False)):
            yield name, module


def _is_router(module: nn.Linear, layer: nn.Module) -> bool:
    """Whether a linear module gives one score an expert, beside fused experts of that number."""
    return any(
        parameter.dim() == 3 and parameter.shape[0] == module.out_features
        for _, experts in expert_modules(layer)
        for parameter in experts.parameters(recurse=False)
    )
