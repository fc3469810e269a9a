"""Rows as tensors, laid out so that every reply begins at the same column: [padding, prompt | reply, padding].

A perturbation of the prompt's columns thus fits the same prompts with any replies.

Shapes: B rows, P prompt columns, R reply columns, T = P + R, K tokens to learn from, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from safetylayers.models import Batch

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

Pieces = tuple[list[int], list[int], list[int]]
"""A prompt, what the reply begins with, and how it goes on: only the last is learnt from."""


@dataclass(frozen=True)
class Laid:
    """A batch, and where in it replies are."""

    batch: Batch
    prompt_width: int
    learnt_BR: Tensor
    """Whether a reply's column holds a token to learn from."""

    @property
    def prompts(self) -> Tensor:
        """Whether a prompt's column holds a token: [B, P]."""
        return self.batch.attention_mask[:, : self.prompt_width].bool()

    def logits(self, model: ChatModel) -> Tensor:
        """Return the logits before every token to learn from, row by row: float32 [K, V].

        Padding is left out at once: over a large vocabulary, what is done with it costs as much as layers.
        """
        width = self.learnt_BR.shape[1]
        return model.logits(self.batch, last=width + 1)[:, :-1][self.learnt_BR].float()

    def logprobs(self, model: ChatModel) -> Tensor:
        """Return log P of every token to learn from, 0 elsewhere: [B, R]."""
        targets_K = self.batch.input_ids[:, self.prompt_width :][self.learnt_BR]
        logprobs_K = -functional.cross_entropy(self.logits(model), targets_K, reduction="none")
        return logprobs_K.new_zeros(self.learnt_BR.shape).masked_scatter(self.learnt_BR, logprobs_K)

    def take(self, rows: slice) -> Laid:
        """Return some of the rows, at the same width."""
        batch = self.batch
        part = Batch(batch.input_ids[rows], batch.attention_mask[rows], batch.position_ids[rows])
        return Laid(part, self.prompt_width, self.learnt_BR[rows])


def lay(rows: Sequence[Pieces], model: ChatModel) -> Laid:
    """Lay out rows."""
    replies = [begun + said for _, begun, said in rows]
    prompt_width = max(len(prompt) for prompt, _, _ in rows)
    width = prompt_width + max(1, *map(len, replies))
    input_ids = torch.full((len(rows), width), model.tokenizer.pad_token_id or 0)
    attention_mask = torch.zeros(len(rows), width, dtype=torch.long)
    learnt_BR = torch.zeros(len(rows), width - prompt_width, dtype=torch.bool)
    for row, ((prompt, begun, _), reply) in enumerate(zip(rows, replies, strict=True)):
        start, stop = prompt_width - len(prompt), prompt_width + len(reply)
        input_ids[row, start:stop] = torch.tensor([*prompt, *reply])
        attention_mask[row, start:stop] = 1
        learnt_BR[row, len(begun) : len(reply)] = True
    position_ids = (attention_mask.cumsum(dim=1) - 1).clamp(min=0)
    place = model.device
    batch = Batch(input_ids.to(place), attention_mask.to(place), position_ids.to(place))
    return Laid(batch, prompt_width, learnt_BR.to(place))
