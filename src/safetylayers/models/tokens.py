"""From rendered texts to a left-padded batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Token sequences that all end at the last column; each tensor is [rows, tokens]."""

    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor

    def __len__(self) -> int:
        return self.input_ids.shape[0]


def pad_left(sequences: Sequence[Sequence[int]], pad: int, device: torch.device) -> Batch:
    """Pad token sequences on the left to the longest one."""
    width = max(map(len, sequences))
    input_ids = torch.full((len(sequences), width), pad)
    attention_mask = torch.zeros(len(sequences), width, dtype=torch.long)
    for row, tokens in enumerate(sequences):
        input_ids[row, width - len(tokens) :] = torch.tensor(tokens)
        attention_mask[row, width - len(tokens) :] = 1
    # A pad's position does not matter, for no token attends to it; it must only not be negative.
    position_ids = (attention_mask.cumsum(dim=1) - 1).clamp(min=0)
    return Batch(input_ids.to(device), attention_mask.to(device), position_ids.to(device))
