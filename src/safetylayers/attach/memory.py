"""The gate's memory, kept in the key-value cache.

What reorders, repeats, selects or crops a cache (beam search, assisted decoding, a prefix used again) does the same to
the gate's state, because the state is one more layer of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from safetylayers.attach.gate import Inputs, Rules, State, advance
from safetylayers.errors import UsageError


class GateMemory(CacheLayerMixin):  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    """Each row's state after the tokens in the cache, and the passes that led there."""

    is_compileable = False
    is_croppable = True
    is_sliding = False
    supports_early_init = False

    def __init__(self, rules: Rules, *, croppable: bool = True) -> None:
        """Begin without a pass.

        Args:
            rules: of the gate.
            croppable: whether tokens can be taken back. It takes memory for every token, and what others join cannot.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.is_initialized = True
        self.is_croppable = croppable
        self._rules = rules
        self._passes: list[tuple[State, Inputs, int]] = []
        self._moves: list[list[int]] = []
        self._length = 0
        self._state: State | None = None

    @property
    def state(self) -> State | None:
        """The state after the last token; None before the first."""
        return self._state

    def remember(self, before: State, inputs: Inputs, after: State) -> None:
        """Keep a pass."""
        if self.is_croppable:
            self._passes.append((before, inputs, len(self._moves)))
        self._length += inputs.values.shape[1]
        self._state = after

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last tokens; counted below zero, as everywhere in a cache.

        Raises:
            UsageError: passes are not kept.
        """
        left = abs(tokens_to_remove)
        if left and not self.is_croppable:
            raise UsageError("What this gate has read cannot be taken back.", mend="Make its memory croppable.")
        while left and self._passes:
            before, inputs, moved = self._passes.pop()
            for rows in self._moves[moved:]:
                before, inputs = before.select(rows), inputs.select(rows)
            length = inputs.values.shape[1]
            self._state, self._length = before, self._length - length
            if length > left:
                part = inputs.first(length - left)
                self.remember(before, part, advance(before, part, self._rules)[0])
            left = max(left - length, 0)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Let rows go on from other rows."""
        self._select(beam_idx.tolist())

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some rows."""
        self._select(np.arange(self._rows)[indices.detach().cpu().numpy()].tolist())

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each row."""
        self._select(np.arange(self._rows).repeat(repeats).tolist())

    @property
    def _rows(self) -> int:
        return len(self._state.rows) if self._state else 0

    def _select(self, rows: list[int]) -> None:
        if self._state is None or rows == list(range(self._rows)):
            return
        self._state = self._state.select(rows)
        if self.is_croppable:
            self._moves.append(rows)  # passes are moved when they are needed, which is seldom

    def join(self, other: GateMemory) -> None:
        """Go on with another memory's rows behind one's own; both caches hold equally many columns.

        Raises:
            UsageError: they do not, one has read nothing, or one may be cropped.
        """
        if self._state is None or other.state is None or self._length != other.get_seq_length():
            raise UsageError("Memories of different lengths cannot be joined.", mend="Pad the caches to one length.")
        if self.is_croppable or other.is_croppable:
            raise UsageError("Memories that may be cropped cannot be joined.", mend="Make them not croppable.")
        self._state = self._state.join(other.state)

    def set_length(self, columns: int) -> None:
        """Follow a cache whose padding grew or shrank; padding was never read."""
        self._length = columns

    def reset(self) -> None:
        """Forget everything."""
        self._passes, self._moves, self._state, self._length = [], [], None, 0

    def get_seq_length(self) -> int:
        """Return how many tokens were read."""
        return self._length

    def get_max_length(self) -> int:
        """There is no limit."""
        return -1

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return length and offset; nothing attends to this layer."""
        return self.get_seq_length() + query_length, 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Do nothing: there are no keys."""

    def update(self, key_states: Tensor, value_states: Tensor, *_args: Any, **_options: Any) -> tuple[Tensor, Tensor]:
        """Hand back what came; attention has no business here."""
        return key_states, value_states

    def offload(self) -> None:
        """Stay on the host."""

    def prefetch(self) -> None:
        """Stay on the host."""


def memory_of(cache: Cache | None) -> GateMemory | None:
    """Return the memory in a cache, if there is one."""
    last = cache.layers[-1] if cache is not None and cache.layers else None
    return last if isinstance(last, GateMemory) else None
