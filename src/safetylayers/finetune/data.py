"""Examples as what a trainer reads: token ids, and labels on the reply alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safetylayers.errors import DataError
from safetylayers.prompts import ExampleSet
from safetylayers.prompts.rendering import render_messages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
Row = dict[str, list[int]]


def encode(examples: ExampleSet, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Row]:
    """Tokenise by the chat template; what exceeds `max_length` tokens is cut off at the end.

    Raises:
        DataError: there is no example, or none whose reply begins within `max_length`.
        MissingChatTemplateError: the tokenizer has no chat template.
    """
    rows = [_encode(example.messages, tokenizer, max_length) for example in examples]
    learnable = [row for row in rows if any(label != IGNORED for label in row["labels"])]
    if not learnable:
        raise DataError(
            f"{examples.name}: nothing to learn in {len(rows)} rows.",
            mend=f"Give rows whose prompts are shorter than {max_length} tokens.",
        )
    return learnable


def _encode(messages: Sequence[dict[str, str]], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Row:
    asked: list[int] = tokenizer(render_messages(messages[:-1], tokenizer), add_special_tokens=False).input_ids
    reply: list[int] = tokenizer(messages[-1]["content"], add_special_tokens=False).input_ids
    end = [tokenizer.eos_token_id] if isinstance(tokenizer.eos_token_id, int) else []
    tokens = [*asked, *reply, *end][:max_length]
    return {"input_ids": tokens, "labels": ([IGNORED] * len(asked) + tokens[len(asked) :])[:max_length]}


class Collator:
    """Pads rows on the right to the longest one."""

    def __init__(self, pad: int) -> None:
        """Take the padding token."""
        self.pad = pad

    def __call__(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """Return input_ids, attention_mask and labels, each [rows, tokens]."""
        width = max(len(row["input_ids"]) for row in rows)

        def padded(key: str, value: int) -> Tensor:
            return torch.tensor([row[key] + [value] * (width - len(row[key])) for row in rows])

        mask = torch.tensor([[1] * len(row["input_ids"]) + [0] * (width - len(row["input_ids"])) for row in rows])
        return {"input_ids": padded("input_ids", self.pad), "attention_mask": mask, "labels": padded("labels", IGNORED)}
