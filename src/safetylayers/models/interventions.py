"""Reading and changing what flows through decoder layers: hooks that return new tensors and always come off again.

Shapes: B rows, T tokens, H hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Change = Callable[[Tensor], Tensor]


def hidden_of(output: Any) -> Tensor:
    """Return the hidden state [B, T, H] of what a decoder layer returned: the tensor itself, or a tuple's first."""
    hidden: Tensor = output[0] if isinstance(output, tuple) else output
    return hidden


def with_hidden(output: Any, hidden: Tensor) -> Any:
    """Return what a decoder layer returned, with another hidden state in it."""
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


@contextmanager
def changed_output(layer: nn.Module, change: Change) -> Iterator[None]:
    """Within the block, the layer's output is `change` of what it was."""

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        return with_hidden(output, change(hidden_of(output)))

    handle = layer.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def captured(
    layers: Sequence[nn.Module], wanted: Sequence[int], keep: Change, *, detached: bool = True
) -> Iterator[dict[int, Tensor]]:
    """Within the block, each forward leaves `keep` of the wanted layers' outputs in the yielded dictionary."""
    found: dict[int, Tensor] = {}

    def reader(index: int) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            hidden = hidden_of(output)
            found[index] = keep(hidden.detach() if detached else hidden)

        return hook

    with ExitStack() as stack:
        for index in wanted:
            # Prepended, so that changes made by other hooks on this layer do not depend on who came first: the layer's
            # own output is what is read.
            handle = layers[index].register_forward_hook(reader(index), prepend=True)
            stack.callback(handle.remove)
        yield found


class _Skipped(nn.Module):
    """Stands in a layer's place and passes its input on; in all else it looks like the layer."""

    def __init__(self, layer: nn.Module, result: Tensor | None) -> None:
        super().__init__()
        object.__setattr__(self, "_layer", layer)  # not registered: it must not appear among the modules
        object.__setattr__(self, "_result", result)

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "_layer"), name)

    def forward(self, hidden_states: Tensor, *_args: Any, **_options: Any) -> Tensor:
        result: Tensor | None = self._result
        return hidden_states if result is None else result


@contextmanager
def resumed(stack: nn.ModuleList, first: int, hidden_BTH: Tensor) -> Iterator[None]:
    """Within the block, layers before `first` are skipped and layer `first` reads `hidden_BTH`."""
    if first == 0:
        with _replaced_input(stack[0], hidden_BTH):
            yield
        return
    originals = list(stack[:first])
    try:
        for index, layer in enumerate(originals):
            stack[index] = _Skipped(layer, hidden_BTH if index == first - 1 else None)
        yield
    finally:
        for index, layer in enumerate(originals):
            stack[index] = layer


@contextmanager
def stopped(stack: nn.ModuleList, last: int) -> Iterator[None]:
    """Within the block, layers after `last` are skipped."""
    originals = list(stack[last + 1 :])
    try:
        for index, layer in enumerate(originals, start=last + 1):
            stack[index] = _Skipped(layer, None)
        yield
    finally:
        for index, layer in enumerate(originals, start=last + 1):
            stack[index] = layer


@contextmanager
def _replaced_input(layer: nn.Module, hidden_BTH: Tensor) -> Iterator[None]:
    def hook(_module: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if inputs:
            return (hidden_BTH, *inputs[1:]), options
        return inputs, {**options, "hidden_states": hidden_BTH}

    handle = layer.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def add_direction(direction_H: Tensor, strength: float | Tensor) -> Change:
    """Return a change that adds strength times a direction at every position; a strength per row is [B]."""

    def change(hidden_BTH: Tensor) -> Tensor:
        direction = direction_H.to(hidden_BTH)
        if isinstance(strength, Tensor):
            return hidden_BTH + strength.to(hidden_BTH)[:, None, None] * direction
        return hidden_BTH + strength * direction

    return change


def replace_position(values_BH: Tensor, position: int) -> Change:
    """Return a change that puts `values_BH` in place of what stands at one position."""

    def change(hidden_BTH: Tensor) -> Tensor:
        column = position % hidden_BTH.shape[1]
        here_T = torch.arange(hidden_BTH.shape[1], device=hidden_BTH.device) == column
        return torch.where(here_T[None, :, None], values_BH.to(hidden_BTH)[:, None, :], hidden_BTH)

    return change
