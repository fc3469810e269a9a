"""Key-value caches that grow and shrink by rows while replies are being made.

All rows of a cache end at its last column; shorter ones have padding on the left. To join two caches, the narrower one
gets more padding, and when the longest row leaves, the padding that all others share is cut off. A sliding-window layer
keeps no more than the last `window - 1` columns of a width, padding included, and counts those that it let go.

Shapes: B rows, N heads, T columns, D head size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers.cache_utils import Cache, DummyLayer, DynamicLayer, DynamicSlidingWindowLayer

from safetylayers.attach.memory import GateMemory

JOINABLE = (DynamicLayer, DynamicSlidingWindowLayer, DummyLayer, GateMemory)


def can_join(cache: Cache) -> bool:
    """Whether every layer is of a kind whose rows can be padded; kinds derived from these hold more than they do."""
    return all(type(layer) in JOINABLE for layer in cache.layers)


def join(cache: Cache, other: Cache) -> None:
    """Put another cache's rows behind a cache's own. The other must not be used any more."""
    width = max(cache.get_seq_length(), other.get_seq_length())
    resize(cache, width)
    resize(other, width)
    mine: Any
    theirs: Any
    for mine, theirs in zip(cache.layers, other.layers, strict=True):
        if isinstance(mine, GateMemory):
            mine.join(theirs)
        elif _holds(mine):
            mine.keys = torch.cat([mine.keys, theirs.keys])
            mine.values = torch.cat([mine.values, theirs.values])


def select(cache: Cache, rows: list[int]) -> None:
    """Keep these rows, in this order."""
    cache.reorder_cache(torch.tensor(rows))  # type: ignore[arg-type]  # it names the class of an older torch


def resize(cache: Cache, width: int) -> None:
    """Give every row so much padding on the left, or so little, that the cache is `width` columns wide."""
    if cache.get_seq_length() == width:
        return
    layer: Any
    for layer in cache.layers:
        if isinstance(layer, GateMemory):
            layer.set_length(width)
        elif _holds(layer):
            held = width
            if isinstance(layer, DynamicSlidingWindowLayer):
                held = min(width, layer.sliding_window - 1)
                layer.cumulative_length = width
            layer.keys, layer.values = _ending(layer.keys, held), _ending(layer.values, held)


def _holds(layer: object) -> bool:
    """Whether a layer holds keys; some models' layers use those of others."""
    return isinstance(layer, DynamicLayer) and layer.is_initialized


def _ending(states_BNTD: Tensor, columns: int) -> Tensor:
    """Return the last columns, with zeros before them where there are too few."""
    missing = columns - states_BNTD.shape[2]
    return pad(states_BNTD, (0, 0, missing, 0)) if missing > 0 else states_BNTD[:, :, -missing:]
