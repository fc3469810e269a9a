"""Examples as what a trainer reads: token ids, and labels on the reply alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Encoded:
    """Rows to learn from, and what `max_length` has cost."""

    rows: list[Row]
    truncated: int
    """Replies that lost their end, which stay among the rows."""
    left_out: int
    """Examples of whose reply nothing was left."""


def encode(examples: ExampleSet, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
    """Tokenise by the chat template; what exceeds `max_length` tokens is cut off at the end.

    Raises:
        DataError: there is no example, one has no request, or none has a reply that begins within `max_length`.
        MissingChatTemplateError: the tokenizer has no chat template.
    """
    for number, example in enumerate(examples, start=1):
        if len(example.messages) < 2:
            raise DataError(f"{examples.name}, example {number}: a reply without a request.", mend="Leave it out.")
    whole = [_encode(example.messages, tokenizer) for example in examples]
    rows = [{key: tokens[:max_length] for key, tokens in row.items()} for row in whole]
    learnable = [row for row in rows if any(label != IGNORED for label in row["labels"])]
    if not learnable:
        raise DataError(
            f"{examples.name}: nothing to learn in {len(rows)} rows.",
            mend=f"Give rows whose prompts are shorter than {max_length} tokens.",
        )
    left_out = len(rows) - len(learnable)
    too_long = sum(len(row["labels"]) > max_length for row in whole)
    return Encoded(learnable, truncated=too_long - left_out, left_out=left_out)


def _encode(messages: Sequence[dict[str, str]], tokenizer: PreTrainedTokenizerBase) -> Row:
    asked: list[int] = tokenizer(render_messages(messages[:-1], tokenizer), add_special_tokens=False).input_ids
    reply: list[int] = tokenizer(messages[-1]["content"], add_special_tokens=False).input_ids
    end = [tokenizer.eos_token_id] if isinstance(tokenizer.eos_token_id, int) else []
    return {"input_ids": [*asked, *reply, *end], "labels": [*[IGNORED] * len(asked), *reply, *end]}


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
