"""Recording what attention heads read from, while the model runs on the attention that it has.

The model's own implementation is called, and then probabilities are noted: eager attention hands out its own, with
sinks, caps and all; SDPA keeps none, so that the wanted rows are worked out once more from queries and keys. What the
model computes stays its own, bit by bit.

Shapes: B rows, H heads, K key heads, N chosen heads, Q queries, R chosen ones (the last, or all), T keys, D head size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from safetylayers.errors import UsageError
from safetylayers.models.attention_backend import Attend, handled
from safetylayers.models.structure import text_config

if TYPE_CHECKING:
    from safetylayers.models.chat_model import ChatModel

Rows = Literal["last", "all"]
Note = Callable[[int, Tensor], None]
"""Told of a layer and its probabilities: float32 [B, N, R, T] on the layer's device."""


@contextmanager
def attending(
    model: ChatModel,
    layers: Sequence[int],
    *,
    rows: Rows = "last",
    heads: Mapping[int, Sequence[int]] | None = None,
    quantised: bool = False,
) -> Iterator[dict[int, Tensor]]:
    """Within the block, each forward leaves the attention probabilities of `layers` in the yielded dictionary.

    Columns of padding are 0, and so are all rows of padding. Where a layer has sinks, its rows sum to less than 1.

    Args:
        model: whose attention is eager or SDPA.
        layers: which ones.
        rows: of queries: "last" leaves [B, N, T], "all" leaves [B, N, T, T].
        heads: layer -> its chosen heads, in the order wanted; all of a layer that is not named.
        quantised: leave uint8, of which 255 is 1, in place of float32. Both are on the CPU.

    Raises:
        UsageError: there is no such layer or head, or the model's attention is recorded already or cannot be.
        UnknownArchitectureError: a layer has no attention of transformers' form.
    """
    found: dict[int, Tensor] = {}

    def keep(layer: int, weights_BNRT: Tensor) -> None:
        weights = weights_BNRT[:, :, 0] if rows == "last" else weights_BNRT
        found[layer] = ((weights * 255).round().to(torch.uint8) if quantised else weights).cpu()

    with noted(model, layers, keep, rows=rows, heads=heads):
        yield found


@contextmanager
def noted(
    model: ChatModel,
    layers: Sequence[int],
    note: Note,
    *,
    rows: Rows = "last",
    heads: Mapping[int, Sequence[int]] | None = None,
) -> Iterator[None]:
    """Within the block, `note` is told of each layer's probabilities as they are made: for who need not keep them all.

    Arguments and exceptions are those of `attending`.
    """
    chosen = heads or {}
    _check(model, layers, chosen)
    with handled(model, {layer: _Recorder(layer, note, rows, chosen.get(layer)) for layer in layers}):
        yield


@dataclass(frozen=True)
class _Recorder:
    """What is wanted of one layer's attention."""

    layer: int
    note: Note
    rows: Rows
    heads: Sequence[int] | None

    def __call__(
        self,
        attend: Attend,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        options: Mapping[str, Any],
    ) -> tuple[Tensor, Tensor | None]:
        """Attend as the module would, then note the probabilities."""
        output, weights_BHQT = attend(module, query, key, value, mask, **options)
        with torch.no_grad():
            causal = options.get("is_causal")
            causal = getattr(module, "is_causal", True) if causal is None else causal
            allowed_BNRT = _allowed(self, mask, query, key, causal=causal)
            if weights_BHQT is None:
                scores_BNRT = _scores(self, query, key, mask, options)
                least = torch.finfo(scores_BNRT.dtype).min
                chosen_BNRT = scores_BNRT.masked_fill(~allowed_BNRT, least).softmax(-1)
            else:
                chosen_BNRT = _cut(self, weights_BHQT).float()
            # A row of padding may see nothing, and softmax spreads it over everything.
            self.note(self.layer, chosen_BNRT * allowed_BNRT)
        return output, weights_BHQT


def _scores(
    recorder: _Recorder, query_BHQD: Tensor, key_BKTD: Tensor, mask: Tensor | None, options: Mapping[str, Any]
) -> Tensor:
    """Return what SDPA takes the softmax of, masked keys included: float32 [B, N, R, T]."""
    scaling, bias = options.get("scaling"), options.get("position_bias")
    query_BNRD, key = _cut(recorder, query_BHQD), key_BKTD
    if recorder.heads is not None:
        group = query_BHQD.shape[1] // key_BKTD.shape[1]
        key = key_BKTD[:, [head // group for head in recorder.heads]]
    B, N, R, D = query_BNRD.shape
    # Queries that share keys are laid beneath each other, so that no key is copied for each of them.
    shared = query_BNRD.reshape(B, key.shape[1], -1, D).float() @ key.float().mT
    scores_BNRT: Tensor = shared.reshape(B, N, R, -1) * (D**-0.5 if scaling is None else scaling)
    for added in (bias, None if mask is None or mask.dtype == torch.bool else mask):
        scores_BNRT = scores_BNRT if added is None else scores_BNRT + _cut(recorder, added)
    return scores_BNRT


def _allowed(recorder: _Recorder, mask: Tensor | None, query_BHQD: Tensor, key_BKTD: Tensor, *, causal: bool) -> Tensor:
    """Return which keys the wanted rows may see, as booleans that broadcast to [B, N, R, T]."""
    if mask is not None:
        cut = _cut(recorder, mask)
        # Masks that are added hold the dtype's least number, or minus infinity, where nothing may be seen.
        return cut if mask.dtype == torch.bool else cut > torch.finfo(mask.dtype).min / 2
    queries, keys_T = query_BHQD.shape[2], torch.arange(key_BKTD.shape[2], device=key_BKTD.device)
    # Without a mask SDPA counts queries from the first key, but for a single query, which sees all.
    last_seen_Q = keys_T[:queries] if causal and queries > 1 else keys_T[-1:].expand(queries)
    last_seen_R = last_seen_Q[-1:] if recorder.rows == "last" else last_seen_Q
    return (keys_T <= last_seen_R[:, None])[None, None]


def _cut(recorder: _Recorder, values: Tensor) -> Tensor:
    """Return the chosen heads and rows of values [B, heads, Q, ...]; what all heads share has one head."""
    if recorder.heads is not None and values.shape[1] > 1:
        values = values[:, list(recorder.heads)]
    return values[:, :, -1:] if recorder.rows == "last" else values


def _check(model: ChatModel, layers: Sequence[int], heads: Mapping[int, Sequence[int]]) -> None:
    """Raise UsageError where there are no such layers or heads."""
    if not layers or any(not 0 <= layer < model.n_layers for layer in layers):
        raise UsageError(
            f"There are no layers {list(layers)}.", mend=f"{model.name} has layers 0 to {model.n_layers - 1}."
        )
    count = int(text_config(model.model).num_attention_heads)
    known = all(chosen and all(0 <= head < count for head in chosen) for chosen in heads.values())
    if not known or not heads.keys() <= set(layers):
        raise UsageError(
            f"There are no heads {dict(heads)} in layers {list(layers)}.",
            mend=f"Each layer of {model.name} has heads 0 to {count - 1}.",
        )
