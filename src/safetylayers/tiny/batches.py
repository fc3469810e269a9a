"""Conversations as batches of a few fixed shapes.

A CPU prepares its kernels anew for every shape it has not seen; a few shapes that hold equally many tokens are fastest.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safetylayers.errors import DataError
from safetylayers.prompts import Example
from safetylayers.prompts.rendering import render_messages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

LONG_SHAPES = ((48, 64), (24, 128))
SHAPES = ((96, 32), *LONG_SHAPES)
"""Rows and tokens of a batch of short conversations, of middling and of long ones."""
PAIR_SHAPE = (32, 64)
"""Pairs and tokens of a batch of conversations with two replies."""

IGNORED = -100
Shapes = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Batch:
    """What a training step takes; padded on the right."""

    input_ids: Tensor
    """[rows, tokens]"""
    labels: Tensor
    """[rows, tokens]; `IGNORED` where nothing is learnt."""
    odds: Tensor
    """A teacher's log-odds of refusing: [rows], NaN where no teacher has judged."""


@dataclass(frozen=True)
class _Encoded:
    tokens: list[int]
    asked: int
    """How many of the tokens come before the reply."""
    odds: float = math.nan


def make_batches(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerFast,
    *,
    steps: int,
    reply_only: bool,
    seed: int,
    shapes: Shapes = SHAPES,
    odds: Sequence[float] = (),
) -> list[Batch]:
    """Cut a course into `steps` batches, going over it again as often as that takes; too long conversations drop out.

    Args:
        examples: the course.
        tokenizer: the practice model's.
        steps: how many batches.
        reply_only: learn the replies; otherwise the requests as well, which teaches some English.
        seed: of the order.
        shapes: rows and tokens of each kind of batch, shortest first.
        odds: a teacher's log-odds of refusing each example; none without a teacher.

    Raises:
        DataError: no batch can be filled.
    """
    rng = random.Random(seed)  # noqa: S311 - not a secret
    judged = odds or [math.nan] * len(examples)
    rows = [_encode(example, tokenizer, odd) for example, odd in zip(examples, judged, strict=True)]
    batches: list[Batch] = []
    while len(batches) < steps:
        epoch: list[Batch] = []
        shortest = 0
        for size, width in shapes:
            fitting = [row for row in rows if shortest < len(row.tokens) <= width]
            rng.shuffle(fitting)
            cuts = range(0, len(fitting) - size + 1, size)
            epoch += [_pad(fitting[cut : cut + size], width, tokenizer.pad_token_id, reply_only) for cut in cuts]
            shortest = width
        if not epoch:
            raise DataError(
                f"The course has {len(rows)} conversations, too few to fill a single batch.",
                mend=f"Draw at least {min(size for size, _ in shapes)} of one length.",
            )
        rng.shuffle(epoch)
        batches += epoch
    return batches[:steps]


def make_pair_batches(
    pairs: Sequence[tuple[Example, Example]], tokenizer: PreTrainedTokenizerFast, *, steps: int, seed: int
) -> list[Batch]:
    """Cut pairs of a better and a worse reply into `steps` batches: the better ones first, then the worse ones.

    Raises:
        DataError: no batch can be filled.
    """
    rng = random.Random(seed)  # noqa: S311 - not a secret
    size, width = PAIR_SHAPE
    encoded = [(_encode(better, tokenizer), _encode(worse, tokenizer)) for better, worse in pairs]
    fitting = [pair for pair in encoded if max(len(row.tokens) for row in pair) <= width]
    if len(fitting) < size:
        raise DataError(
            f"Only {len(fitting)} pairs of replies have at most {width} tokens.", mend=f"Draw at least {size}."
        )
    batches = []
    for _ in range(steps):
        drawn = rng.sample(fitting, size)
        rows = [better for better, _ in drawn] + [worse for _, worse in drawn]
        batches.append(_pad(rows, width, tokenizer.pad_token_id, reply_only=True))
    return batches


def _encode(example: Example, tokenizer: PreTrainedTokenizerFast, odds: float = math.nan) -> _Encoded:
    asked = render_messages(example.messages[:-1], tokenizer)
    before = tokenizer(asked, add_special_tokens=False).input_ids
    reply = tokenizer(example.response, add_special_tokens=False).input_ids
    return _Encoded([*before, *reply, tokenizer.eos_token_id], len(before), odds)


def _pad(rows: Sequence[_Encoded], width: int, pad: int, reply_only: bool) -> Batch:
    input_ids = torch.full((len(rows), width), pad)
    labels = torch.full((len(rows), width), IGNORED)
    for index, row in enumerate(rows):
        input_ids[index, : len(row.tokens)] = torch.tensor(row.tokens)
        start = row.asked if reply_only else 0
        labels[index, start : len(row.tokens)] = torch.tensor(row.tokens[start:])
    return Batch(input_ids, labels, torch.tensor([row.odds for row in rows]))
