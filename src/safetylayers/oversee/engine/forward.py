"""Passes of the model over the rows of a batch, and what the monitors read in them.

Shapes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache

from safetylayers.attach import Control, SafetyLayers, TokenTrace, attach
from safetylayers.attach.memory import GateMemory
from safetylayers.oversee.words import Reading

if TYPE_CHECKING:
    from safetylayers.models import ChatModel


class Forward:
    """A model with its safety layers on, if it has any. All passes are made by one thread."""

    def __init__(self, model: ChatModel, layers: SafetyLayers | None, control: Control) -> None:
        """Put the layers on. Raises WrongModelError, UsageError."""
        self._model = model
        self._options = frozenset(inspect.signature(model.model.forward).parameters)
        self._traces: dict[object, TokenTrace] = {}
        self._attached = attach(model, layers, control=control, trace=self._keep) if layers else None

    @property
    def watches(self) -> bool:
        """Whether there are monitors."""
        return self._attached is not None

    def detach(self) -> None:
        """Take the layers off."""
        if self._attached:
            self._attached.detach()

    def read(self, names: Sequence[str], prompts: Sequence[list[int]], *, last: int) -> tuple[Tensor, Cache]:
        """Read prompts; return the logits at the `last` positions [B, last, V], 0 for all, and the cache."""
        cache = DynamicCache(config=self._model.model.config)
        batch = self._model.batch_of(prompts)
        mask = batch.attention_mask if len(set(map(len, prompts))) > 1 else None
        if self._attached is None:
            return self._pass(batch.input_ids, mask, batch.position_ids, cache, last), cache
        cache.layers.append(GateMemory(self._attached.rules, croppable=False))
        with self._attached.rows(names):
            return self._pass(batch.input_ids, mask, batch.position_ids, cache, last), cache

    def step(self, tokens: Sequence[int], lengths: Sequence[int], cache: Cache) -> Tensor:
        """Read one more token a row; return the logits [B, V].

        Args:
            tokens: one a row.
            lengths: of each row so far, padding left out.
            cache: of these rows.
        """
        device, width = self._model.device, cache.get_seq_length()
        lengths_B1 = torch.tensor(lengths, device=device)[:, None]
        mask_BT = None
        if min(lengths) < width:
            mask_BT = (torch.arange(width + 1, device=device) >= width - lengths_B1).long()
        ids_B1 = torch.tensor(tokens, device=device)[:, None]
        return self._pass(ids_B1, mask_BT, lengths_B1, cache, 1)[:, -1]

    def readings(self, names: Sequence[str]) -> list[Reading | None]:
        """Return what the monitors read in each row's last token of the last pass; None where there are none."""
        if not self.watches:
            return [None] * len(names)
        return [_reading(self._traces[name]) for name in names]

    def _keep(self, traces: Sequence[TokenTrace]) -> None:
        self._traces = {trace.row: trace for trace in traces}

    def _pass(self, ids_BT: Tensor, mask: Tensor | None, positions_BT: Tensor, cache: Cache, last: int) -> Tensor:
        options: dict[str, Any] = {"past_key_values": cache, "use_cache": True}
        if "position_ids" in self._options:
            options["position_ids"] = positions_BT
        if "logits_to_keep" in self._options:
            options["logits_to_keep"] = last
        self._traces = {}
        logits: Tensor = self._model.model(input_ids=ids_BT, attention_mask=mask, **options).logits
        return logits.to(self._model.device)  # a model that is spread over devices ends on another one


def _reading(trace: TokenTrace) -> Reading:
    scores = {head: sum(values) / len(values) for head, values in trace.scores.items()}
    return Reading(scores=scores, risk=trace.risk, open=trace.open, strength=trace.strength)
