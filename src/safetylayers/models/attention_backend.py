"""A model's attention under our hand: for a block, chosen layers' attention goes through a function of ours.

transformers lets attention be registered by name. What is registered here hands over to a handler, which is given the
implementation that the module would call without us. Only attention modules of the chosen layers, and only within the
block, get that name, in a copy of their configuration. Masks are made by the stack above them, whose configuration
nobody touches: windows, chunks and padding stay the model's own.

Shapes: B rows, H heads, Q queries, T keys, D head size.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FunctionType
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedConfig

from safetylayers.errors import UnknownArchitectureError, UsageError

if TYPE_CHECKING:
    from safetylayers.models.chat_model import ChatModel

NAME = "safetylayers_handled"
WRAPPED = ("eager", "sdpa")
"""Implementations that can be handed over."""

Attend = Callable[..., tuple[Tensor, Tensor | None]]
"""As transformers calls attention: (module, query, key, value, mask, **options) -> output and probabilities, if any."""
Handler = Callable[
    [Attend, nn.Module, Tensor, Tensor, Tensor, Tensor | None, Mapping[str, Any]], tuple[Tensor, Tensor | None]
]
"""Given what the module would call, and what it would call it with."""


@contextmanager
def handled(model: ChatModel, handlers: Mapping[int, Handler]) -> Iterator[None]:
    """Within the block, the attention of some layers goes through a handler each.

    Raises:
        UsageError: the model's attention is handled already or cannot be.
        UnknownArchitectureError: a layer has no attention of transformers' form.
    """
    modules = {module: layer for layer in handlers for module in _attention_of(model, layer)}
    chosen = {module: (_implementation(module), handlers[layer]) for module, layer in modules.items()}
    originals = {module: module.config for module in modules}
    renamed = {id(config): _renamed(config) for config in originals.values()}
    try:
        for module, pair in chosen.items():
            _HANDLERS[module] = pair
            module.config = renamed[id(originals[module])]
        yield
    finally:
        for module, config in originals.items():
            module.config = config
            _HANDLERS.pop(module, None)


def layers_with_attention(model: ChatModel) -> tuple[int, ...]:
    """Return the layers whose attention can be handled; some models have layers of another kind in between."""
    return tuple(number for number, layer in enumerate(model.layers) if any(map(_is_attention, layer.modules())))


_HANDLERS: dict[nn.Module, tuple[Attend, Handler]] = {}


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, Tensor | None]:
    """Hand over. Names are those by which modules may call; options are handed on as they come."""
    attend, handler = _HANDLERS[module]
    return handler(attend, module, query, key, value, attention_mask, options)


AttentionInterface.register(NAME, _attend)


def _attention_of(model: ChatModel, layer: int) -> list[Any]:
    """Return a layer's modules that go through transformers' attention interface. Raises UnknownArchitectureError."""
    found = [module for module in model.layers[layer].modules() if _is_attention(module)]
    if not found:
        raise UnknownArchitectureError(
            f"{model.architecture}: layer {layer} has no attention that can be handled.",
            mend="Choose layers, or a model, whose attention goes through transformers' attention interface.",
        )
    return found


def _forward(module: nn.Module) -> FunctionType | None:
    """Return the module's forward as it was written, under whatever decorators it wears."""
    written = inspect.unwrap(type(module).forward)
    return written if isinstance(written, FunctionType) else None


def _is_attention(module: nn.Module) -> bool:
    forward = _forward(module)
    named = forward is not None and "ALL_ATTENTION_FUNCTIONS" in forward.__code__.co_names
    return named and isinstance(getattr(module, "config", None), PreTrainedConfig)


def _implementation(module: Any) -> Callable[..., Any]:
    """Return what an attention module calls. Raises UsageError."""
    name, forward = module.config._attn_implementation, _forward(module)
    if name == NAME:
        raise UsageError("The model's attention is being recorded already.", mend="Leave the other block first.")
    known = forward.__globals__ if forward is not None else {}
    found = known.get("eager_attention_forward") if name == "eager" else known["ALL_ATTENTION_FUNCTIONS"].get(name)
    if name not in WRAPPED or found is None:
        raise UsageError(
            f"Attention of the kind {name!r} cannot be recorded.",
            mend="Load the model with SDPA: model.model.set_attn_implementation('sdpa').",
        )
    implementation: Callable[..., Any] = found
    return implementation


def _renamed(config: PreTrainedConfig) -> PreTrainedConfig:
    changed = copy.deepcopy(config)
    changed._attn_implementation = NAME
    return changed
