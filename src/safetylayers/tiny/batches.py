"""Conversations as batches of a few fixed shapes.

A CPU prepares its kernels anew for every shape it has not seen; a few shapes that hold equally many tokens are fastest.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safetylayers.prompts import Example
from safetylayers.prompts.rendering import render_messages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

LONG_SHAPES = ((48, 64), (24, 128))
SHAPES = ((96, 32), *LONG_SHAPES)
"""Rows and tokens of a batch of short conversations, of middling and of long ones."""

IGNORED = -100
Shapes = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Batch:
    """What a training step takes; all [rows, tokens]."""

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor


def make_batches(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerFast,
    *,
    steps: int,
    reply_only: bool,
    seed: int,
    shapes: Shapes = SHAPES,
) -> list[Batch]:
    """Cut a course into `steps` batches, going over it again as often as that takes; too long conversations drop out.

    Args:
        examples: the course.
        tokenizer: the practice model's.
        steps: how many batches.
        reply_only: learn the replies; otherwise the requests as well, which teaches some English.
        seed: of the order.
        shapes: rows and tokens of each kind of batch, shortest first.
    """
    rng = random.Random(seed)  # noqa: S311 - not a secret
    rows = [_encode(example, tokenizer) for example in examples]
    batches: list[Batch] = []
    while len(batches) < steps:
        epoch: list[Batch] = []
        shortest = 0
        for size, width in shapes:
            fitting = [row for row in rows if shortest < len(row[0]) <= width]
            rng.shuffle(fitting)
            cuts = range(0, len(fitting) - size + 1, size)
            epoch += [_pad(fitting[cut : cut + size], width, tokenizer.pad_token_id, reply_only) for cut in cuts]
            shortest = width
        rng.shuffle(epoch)
        batches += epoch
    return batches[:steps]


def _encode(example: Example, tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], int]:
    """Return the conversation's tokens, and how many of them come before the reply."""
    asked = render_messages(example.messages[:-1], tokenizer)
    before = tokenizer(asked, add_special_tokens=False).input_ids
    reply = tokenizer(example.response, add_special_tokens=False).input_ids
    return [*before, *reply, tokenizer.eos_token_id], len(before)


def _pad(rows: Sequence[tuple[list[int], int]], width: int, pad: int, reply_only: bool) -> Batch:
    input_ids = torch.full((len(rows), width), pad)
    labels = torch.full((len(rows), width), IGNORED)
    for index, (tokens, asked) in enumerate(rows):
        input_ids[index, : len(tokens)] = torch.tensor(tokens)
        start = asked if reply_only else 0
        labels[index, start : len(tokens)] = torch.tensor(tokens[start:])
    return Batch(input_ids, (input_ids != pad).long(), labels)
