"""One key-value cache for many rows: what stands before the first difference is read once and shared.

Rows are views of one row's keys and values; nothing is copied before attention itself joins them to what is new.
Shapes: B rows, N heads, T tokens, D head size.
"""

from __future__ import annotations

from copy import copy
from typing import Any

from transformers.cache_utils import Cache, DummyLayer, DynamicLayer, DynamicSlidingWindowLayer

_SHAREABLE = (DynamicLayer, DynamicSlidingWindowLayer, DummyLayer)


def shareable(cache: object) -> bool:
    """Whether every layer holds keys and values alone; kinds derived from these hold a state of their own."""
    return isinstance(cache, Cache) and all(type(layer) in _SHAREABLE for layer in cache.layers)


def whole(cache: Cache) -> bool:
    """Whether no layer has let go of a token: only then can the cache be cut anywhere."""
    return all(layer.keys.shape[-2] == layer.get_seq_length() for layer in _held(cache))


def shared(cache: Cache, rows: int, length: int | None = None) -> Cache:
    """Return a cache of `rows` rows that all begin as the one row of `cache` does.

    Args:
        cache: of one row; it stays as it is.
        rows: how many.
        length: tokens to begin with, by itself all; fewer only of a `whole` cache.
    """
    view = copy(cache)
    view.layers = [copy(layer) for layer in cache.layers]
    layer: Any
    for layer in _held(view):
        if length is not None and length < layer.get_seq_length():
            layer.keys, layer.values = layer.keys[:, :, :length], layer.values[:, :, :length]
            if isinstance(layer, DynamicSlidingWindowLayer):
                layer.cumulative_length = length
        layer.keys = layer.keys.expand(rows, -1, -1, -1)
        layer.values = layer.values.expand(rows, -1, -1, -1)
    return view


def detached(cache: Cache) -> Cache:
    """Return the cache without the graph that led to it."""
    view = copy(cache)
    view.layers = [copy(layer) for layer in cache.layers]
    layer: Any
    for layer in _held(view):
        layer.keys, layer.values = layer.keys.detach(), layer.values.detach()
    return view


def _held(cache: Cache) -> list[Any]:
    """Return the layers that hold keys; some models' layers use those of others."""
    return [layer for layer in cache.layers if isinstance(layer, DynamicLayer) and layer.is_initialized]
