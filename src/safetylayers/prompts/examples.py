"""Fine-tuning data: requests with the replies to learn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from safetylayers.errors import DataError
from safetylayers.prompts.prompt_set import content_hash
from safetylayers.prompts.table import Row, read_rows


@dataclass(frozen=True)
class Example:
    """A conversation up to and with the reply to learn."""

    messages: tuple[dict[str, str], ...]
    """Role and content of each turn; the last one is the assistant's."""

    @classmethod
    def of(cls, prompt: str, response: str) -> Example:
        """Return a conversation of one request and its reply."""
        return cls(({"role": "user", "content": prompt}, {"role": "assistant", "content": response}))

    @property
    def prompt(self) -> str:
        """The last request before the reply."""
        return next((turn["content"] for turn in reversed(self.messages) if turn["role"] == "user"), "")

    @property
    def response(self) -> str:
        """The reply to learn."""
        return self.messages[-1]["content"]


@dataclass(frozen=True)
class ExampleSet:
    """Examples in a fixed order, under the name that reports show."""

    name: str
    examples: tuple[Example, ...]

    def __len__(self) -> int:
        return len(self.examples)

    def __iter__(self) -> Iterator[Example]:
        return iter(self.examples)

    @property
    def content_hash(self) -> str:
        """SHA-256 over roles and contents in order."""
        return content_hash([[part for turn in e.messages for part in (turn["role"], turn["content"])] for e in self])


def load_examples(source: str | Path, *, split: str = "train", limit: int | None = None) -> ExampleSet:
    """Load rows with `messages`, or with `prompt` and `response`, from a file or the hub.

    Raises:
        DataError: the source cannot be read, is empty, or a row is malformed; it says where.
    """
    rows = islice(read_rows(source, split=split), limit)
    return ExampleSet(Path(source).stem, tuple(_example(row) for row in rows))


def _example(row: Row) -> Example:
    if "messages" in row.fields:
        return Example(_messages(row))
    if {"prompt", "response"} <= row.fields.keys():
        return Example.of(_text(row, "prompt"), _text(row, "response"))
    raise DataError(
        f"{row.place}: neither 'messages' nor 'prompt' and 'response'. It has: {row.columns}.",
        mend="Rename the columns to 'prompt' and 'response', or give every row a list of 'messages'.",
    )


def _text(row: Row, column: str) -> str:
    value = row.fields[column]
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{row.place}: {column!r} holds no text.", mend="Fill it in, or delete the row.")
    return value


def _messages(row: Row) -> tuple[dict[str, str], ...]:
    turns: Any = row.fields["messages"]
    if not isinstance(turns, list) or not turns:
        raise DataError(f"{row.place}: 'messages' is not a list of turns.", mend="Fill it in, or delete the row.")
    for number, turn in enumerate(turns, start=1):
        filled = isinstance(turn, dict) and all(isinstance(turn.get(key), str) for key in ("role", "content"))
        if not filled or not turn["content"].strip():
            raise DataError(
                f"{row.place}: turn {number} of 'messages' lacks a role or a content.",
                mend='Write each turn as {"role": "user", "content": "..."}.',
            )
    if turns[-1]["role"] != "assistant":
        raise DataError(f"{row.place}: the last of 'messages' is not the assistant's.", mend="Add the reply to learn.")
    return tuple({"role": turn["role"], "content": turn["content"]} for turn in turns)
