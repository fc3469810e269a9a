"""The search: candidates by the gradient, their losses, and the suffix that goes on (arXiv 2307.15043, algorithm 1).

Candidates are tokenised again before they are read, not after: on one core of a CPU, reading one costs the practice
model some 25 times as much as tokenising it, and larger models more.

Shapes: N candidates, R replaced tokens, F suffix tokens, V vocabulary, K tokens to choose from at a place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from safetylayers.attack.gcg.layout import Layout, Tokens
from safetylayers.attack.gcg.probing import Scored, probed
from safetylayers.attack.gcg.reading import Gradient, Reader


@dataclass
class Buffer:
    """The best suffixes so far, the best first."""

    size: int
    entries: list[tuple[float, Tokens]] = field(default_factory=list)
    _fruitless: dict[Tokens, int] = field(default_factory=dict)

    def add(self, loss: float, suffix: Tokens) -> bool:
        """Keep a suffix if it is among the best; return whether it is the very best."""
        if all(suffix != kept for _, kept in self.entries):
            self.entries = sorted([*self.entries, (loss, suffix)])[: self.size]
        return self.best[1] == suffix

    def fail(self, suffix: Tokens) -> None:
        """Note that a step from this suffix found no better one than the best."""
        self._fruitless[suffix] = self._fruitless.get(suffix, 0) + 1

    @property
    def best(self) -> tuple[float, Tokens]:
        """The lowest loss, and its suffix."""
        return self.entries[0]

    @property
    def next(self) -> Tokens:
        """The suffix that goes on: of those with the fewest fruitless steps, the best."""
        return min((self._fruitless.get(suffix, 0), loss, suffix) for loss, suffix in self.entries)[2]


@dataclass(frozen=True)
class Draws:
    """How candidates are drawn."""

    candidates: int
    top_k: int
    replaced: int

    def draw(self, slope_FV: Tensor, current: Tokens, generator: torch.Generator) -> list[Tokens]:
        """Return different candidates: the current suffix with some tokens replaced by ones that promise a lower loss.

        Args:
            slope_FV: infinite for tokens that may not be used.
            current: the suffix.
            generator: on the CPU.
        """
        places, count = len(current), self.candidates
        best_FK = slope_FV.topk(self.top_k, largest=False).indices.cpu()
        where_NR = torch.rand(count, places, generator=generator).argsort(dim=1)[:, : self.replaced]
        which_NR = torch.randint(self.top_k, (count, where_NR.shape[1]), generator=generator)
        ids_NF = torch.tensor(current).repeat(count, 1)
        ids_NF.scatter_(1, where_NR, best_FK[where_NR, which_NR])
        rows: list[list[int]] = ids_NF.tolist()
        return list(dict.fromkeys(map(tuple, rows)))


class Search:
    """Searches for one prompt's suffix."""

    def __init__(
        self,
        reader: Reader,
        layout: Layout,
        draws: Draws,
        allowed_V: Tensor,
        *,
        seed: int,
        buffer: int = 1,
        draft: Reader | None = None,
    ) -> None:
        """Begin at the layout's own suffix.

        Args:
            reader: of the target.
            layout: the prompt.
            draws: how candidates are drawn.
            allowed_V: tokens that a suffix may hold.
            seed: of all draws.
            buffer: suffixes that are kept.
            draft: of a small model that says which candidates the target is to read.
        """
        self._reader, self._layout, self._draws, self._draft = reader, layout, draws, draft
        self._barred_V = ~allowed_V.to(reader.model.device)
        self._generator = torch.Generator().manual_seed(seed)
        self._kept = Buffer(buffer)
        self._read = {layout.start}  # since the best one changed
        self._gradient: tuple[Tokens, Gradient] | None = None
        self._kept.add(self._slope(layout.start).loss, layout.start)
        self.reached = self._slope(layout.start).reached
        """Whether the best suffix makes each token of the target the likeliest."""

    @property
    def best(self) -> Tokens:
        """The best suffix so far."""
        return self._kept.best[1]

    @property
    def loss(self) -> float:
        """Its loss."""
        return self._kept.best[0]

    def step(self) -> None:
        """Read candidates that are changes of one kept suffix; keep the best of those that can be sent as text."""
        current = self._kept.next
        slope_FV = self._slope(current).slope_FV.masked_fill(self._barred_V, float("inf"))
        drawn = self._draws.draw(slope_FV, current, self._generator)
        new = [row for row in drawn if row not in self._read]
        self._read.update(new)
        fitting = [row for row, fits in zip(new, self._layout.sendable(new), strict=True) if fits] if new else []
        ordered = sorted(self._losses(fitting))
        found = next((pair for pair in ordered if self._layout.typed(pair[1]) is not None), None)
        if found is None or not self._kept.add(*found):
            self._kept.fail(current)
            return
        self._read = {found[1]}
        self.reached = self._slope(found[1]).reached

    def _losses(self, rows: Sequence[Tokens]) -> list[Scored]:
        if self._draft is not None and rows:
            return probed(self._reader, self._draft, rows, self._generator)
        return list(zip(self._reader.losses(rows), rows, strict=True)) if rows else []

    def _slope(self, suffix: Tokens) -> Gradient:
        """Return a suffix's gradient; the last one is remembered, for a suffix may go on for several steps."""
        if self._gradient is None or self._gradient[0] != suffix:
            self._gradient = (suffix, self._reader.gradient(suffix))
            if self._draft is not None:
                self._draft.follow(suffix)
        return self._gradient[1]
