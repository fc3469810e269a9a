"""Rows that make their tokens together."""

from __future__ import annotations

from transformers.cache_utils import Cache

from safetylayers.oversee.engine import caches
from safetylayers.oversee.engine.row import Row


class Batch:
    """Replies and their cache, whose rows are in the same order."""

    def __init__(self, rows: list[Row], cache: Cache) -> None:
        """Begin with rows that were read together."""
        self.rows, self.cache = rows, cache

    @property
    def can_join(self) -> bool:
        """Whether other rows can join."""
        return caches.can_join(self.cache)

    def join(self, other: Batch) -> None:
        """Take in another batch of the same model, which must not be used any more."""
        caches.join(self.cache, other.cache)
        self.rows = self.rows + other.rows

    def keep(self, places: list[int]) -> None:
        """Let go of all other rows, and of the padding that only they made necessary."""
        if len(places) == len(self.rows):
            return
        self.rows = [self.rows[place] for place in places]
        if self.rows:
            caches.select(self.cache, places)
            if self.can_join:
                caches.resize(self.cache, max(row.length for row in self.rows))
