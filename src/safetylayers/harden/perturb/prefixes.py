"""Reads many texts that begin alike: what the first of a group has in common with the others is read once.

Each of the others goes on from the first one's keys and values, of which it attends to no more than the part that it
shares. Shapes: B rows, T tokens, H hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from safetylayers.models import interventions
from safetylayers.models.batching import run_batched

if TYPE_CHECKING:
    from transformers.cache_utils import Cache

    from safetylayers.models import ChatModel
    from safetylayers.records import ProgressCallback

Ids = Sequence[int]


def last_states(
    model: ChatModel, groups: Sequence[Sequence[Ids]], layer: int, *, progress: ProgressCallback | None = None
) -> tuple[list[Tensor], list[int]]:
    """Read a layer's hidden state at the last token of every sequence.

    Args:
        model: that reads; the layers above are skipped.
        groups: token sequences, those of a group as alike as can be with the first one.
        layer: whose output it is.
        progress: told after each batch.

    Returns:
        float32 on the CPU, [sequences, H] for each group, and how many tokens were read of each group.
    """
    with torch.inference_mode(), model.stop_after(layer):
        reader = _Reader(model, layer)
        sizes = [len(group) * len(group[0]) for group in groups]
        most = max(map(len, groups), default=1)
        found = run_batched(
            sizes,
            max(1, model.batch_size // most),
            lambda indices: reader.read([groups[index] for index in indices]),
            what="hidden states",
            progress=progress,
        )
    return [states for states, _ in found], [tokens for _, tokens in found]


class _Reader:
    def __init__(self, model: ChatModel, layer: int) -> None:
        self._model, self._layer = model, layer

    def read(self, groups: Sequence[Sequence[Ids]]) -> list[tuple[Tensor, int]]:
        """Return the states of each group, and how many tokens were read."""
        firsts = [group[0] for group in groups]
        batch = self._model.batch_of(firsts)
        ends_BH, cache = self._forward(
            use_cache=True,
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, position_ids=batch.position_ids,
        )  # fmt: skip
        kept = cache if shareable(cache) else None
        rows = [(place, ids) for place, group in enumerate(groups) for ids in group[1:]]
        states = [[ends_BH[place]] for place in range(len(groups))]
        tokens = [len(first) for first in firsts]
        for start in range(0, len(rows), self._model.batch_size):
            part = rows[start : start + self._model.batch_size]
            shared = [_in_common(firsts[place], ids) if kept is not None else 0 for place, ids in part]
            more_BH = self._go_on(kept, firsts, part, shared)
            for (place, ids), length, state_H in zip(part, shared, more_BH, strict=True):
                states[place].append(state_H)
                tokens[place] += len(ids) - length
        return [(torch.stack(rows), count) for rows, count in zip(states, tokens, strict=True)]

    def _go_on(
        self, cache: Cache | None, firsts: Sequence[Ids], part: Sequence[tuple[int, Ids]], shared: Sequence[int]
    ) -> Tensor:
        """Read what each row has of its own, behind what it shares with its group's first; [B, H]."""
        batch = self._model.batch_of([ids[length:] for (_, ids), length in zip(part, shared, strict=True)])
        if cache is None:
            return self._forward(
                use_cache=False,
                input_ids=batch.input_ids, attention_mask=batch.attention_mask, position_ids=batch.position_ids,
            )[0]  # fmt: skip
        width = cache.get_seq_length()
        device = batch.input_ids.device
        begins_B = torch.tensor([width - len(firsts[place]) for place, _ in part], device=device)
        shared_B = torch.tensor(shared, device=device)
        columns_T = torch.arange(width, device=device)
        seen_BT = (columns_T >= begins_B[:, None]) & (columns_T < (begins_B + shared_B)[:, None])
        return self._forward(
            use_cache=True,
            past_key_values=_selected(cache, torch.tensor([place for place, _ in part], device=device)),
            input_ids=batch.input_ids,
            attention_mask=torch.cat([seen_BT.to(batch.attention_mask), batch.attention_mask], dim=1),
            position_ids=batch.position_ids + shared_B[:, None],
        )[0]

    def _forward(self, **inputs: Any) -> tuple[Tensor, Any]:
        model = self._model
        options = {"logits_to_keep": 1} if "logits_to_keep" in model.forward_options else {}
        if "position_ids" not in model.forward_options:
            inputs.pop("position_ids")
        with interventions.captured(model.layers, [self._layer], lambda hidden: hidden[:, -1].float().cpu()) as found:
            output = model.model(**inputs, **options)
        return found[self._layer], getattr(output, "past_key_values", None)


def shareable(cache: object) -> bool:
    """Whether rows may attend to any part of it; windows and recurrent states count places and allow for no gap."""
    from transformers.cache_utils import Cache, DynamicLayer

    return isinstance(cache, Cache) and all(type(layer) is DynamicLayer for layer in cache.layers)


def _selected(cache: Cache, rows: Tensor) -> Cache:
    """Return a cache whose rows are these rows of another, which stays as it is."""
    view = copy(cache)
    view.layers = [copy(layer) for layer in cache.layers]
    layer: Any
    for layer in view.layers:
        if layer.is_initialized:
            layer.keys, layer.values = layer.keys[rows], layer.values[rows]
    return view


def _in_common(first: Ids, other: Ids) -> int:
    """Return how many tokens two sequences begin with alike; at least one of the other is left to be read."""
    limit = min(len(first), len(other) - 1)
    return next((place for place in range(limit) if first[place] != other[place]), limit)
