"""Holding decoder layers still: their parameters take no gradient."""

from __future__ import annotations

from typing import Literal

from torch import nn

from safetylayers.errors import UsageError
from safetylayers.models.structure import find_decoder_layers, projections

Scope = Literal["projections", "layers"]


def freeze_layers(model: nn.Module, first: int, last: int, scope: Scope) -> list[str]:
    """Hold layers `first` to `last` still; return the names of the frozen parameters.

    Args:
        model: a transformers model.
        first: 0-based.
        last: inclusive.
        scope: attention and MLP projections only, or whole layers with their norms.

    Raises:
        UsageError: there are no such layers, or there is no such scope.
    """
    layers = find_decoder_layers(model)  # type: ignore[arg-type]  # any module of that shape
    if last >= len(layers):
        raise UsageError(f"There is no layer {last}.", mend=f"This model has layers 0 to {len(layers) - 1}.")
    if scope not in ("projections", "layers"):
        raise UsageError(f"There is no scope {scope!r}.", mend="Use projections or layers.")
    held = {
        id(parameter)
        for layer in layers[first : last + 1]
        for parameter in (projections(layer).values() if scope == "projections" else layer.parameters())
    }
    frozen = [(name, parameter) for name, parameter in model.named_parameters() if id(parameter) in held]
    for _, parameter in frozen:
        parameter.requires_grad_(False)
    return [name for name, _ in frozen]
