"""The correction: what an open gate adds to the residual stream, so that the reply becomes a refusal.

Learned, it is a low-rank map of the hidden state: h + strength * ((h V) U + b). Untrained, it is a step along the map's
refusal direction (arXiv 2406.11717, section 2.4). Shapes: H hidden size, R rank.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Correction(nn.Module):
    """A low-rank change of the residual stream; of rank 0, a constant step."""

    def __init__(self, hidden_size: int, rank: int) -> None:
        """Make a correction that changes nothing yet."""
        super().__init__()
        self.down = nn.Parameter(torch.randn(hidden_size, rank) * hidden_size**-0.5)
        self.up = nn.Parameter(torch.zeros(rank, hidden_size))
        self.step = nn.Parameter(torch.zeros(hidden_size))

    @property
    def rank(self) -> int:
        """Rank of the map."""
        return self.up.shape[0]

    def forward(self, hidden_BTH: Tensor) -> Tensor:
        """Return what is to be added at strength one: float32 [B, T, H]."""
        hidden_BTH = hidden_BTH.float()
        return hidden_BTH @ self.down @ self.up + self.step if self.rank else self.step.expand_as(hidden_BTH)

    @classmethod
    def steering(cls, step_H: Tensor) -> Correction:
        """Return the untrained correction: one step, the same for every hidden state."""
        correction = cls(len(step_H), 0)
        with torch.no_grad():
            correction.step.copy_(step_H)
        return correction
