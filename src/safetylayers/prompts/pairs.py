"""Preference data: two replies to one conversation, of which one was preferred."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from safetylayers.errors import DataError
from safetylayers.prompts.prompt_set import content_hash
from safetylayers.prompts.table import Row, read_rows

Turn = dict[str, str]
_ROLES = {"Human": "user", "Assistant": "assistant"}
_TURN = re.compile(r"\n\n(Human|Assistant): ?")


@dataclass(frozen=True)
class Pair:
    """A choice between two replies."""

    messages: tuple[Turn, ...]
    """The conversation up to the replies; the last turn is the user's."""
    chosen: str
    rejected: str
    value: str = ""
    """Which named value was asked about; empty for the reply as a whole."""
    category: str = ""
    margin: float = 0.0
    """By how much more the chosen one is to be worth, in the reward's own units."""
    by: str = ""
    """Who chose."""
    source: str = ""
    """Where the choice comes from."""

    @classmethod
    def of(cls, prompt: str, chosen: str, rejected: str) -> Pair:
        """Return a choice about one request."""
        return cls(({"role": "user", "content": prompt},), chosen, rejected)

    @property
    def prompt(self) -> str:
        """The last request."""
        return next((turn["content"] for turn in reversed(self.messages) if turn["role"] == "user"), "")


@dataclass(frozen=True)
class PairSet:
    """Pairs in a fixed order, under the name that reports show."""

    name: str
    pairs: tuple[Pair, ...]

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[Pair]:
        return iter(self.pairs)

    @property
    def content_hash(self) -> str:
        """SHA-256 over conversations, replies and what was asked about, in order."""
        return content_hash(
            [
                [part for turn in p.messages for part in (turn["role"], turn["content"])]
                + [p.chosen, p.rejected, p.value, repr(p.margin)]
                for p in self
            ]
        )


def load_pairs(source: str | Path, *, split: str = "train", limit: int | None = None) -> PairSet:
    """Load choices from a file or the hub.

    A row has `chosen` and `rejected`, each a reply, a list of messages, or a transcript of "Human:" and "Assistant:";
    with replies alone also `prompt`, a text or a list of messages. It may have `value`, `category`, `source`, `margin`
    and `by`.

    Raises:
        DataError: the source cannot be read, is empty, or a row is malformed; it says where.
    """
    rows = islice(read_rows(source, split=split), limit)
    return PairSet(Path(source).stem, tuple(read_pair(row) for row in rows))


def read_pair(row: Row) -> Pair:
    """Read one row. Raises DataError where it is malformed; it says where."""
    if missing := {"chosen", "rejected"} - row.fields.keys():
        raise DataError(
            f"{row.place}: no {' and no '.join(map(repr, sorted(missing)))}. It has: {row.columns}.",
            mend="Give every row a prompt, the reply that was chosen, and the one that was rejected.",
        )
    begun = _asked(row) if "prompt" in row.fields else []
    chosen, rejected = (_whole(row, column, begun) for column in ("chosen", "rejected"))
    if chosen[:-1] != rejected[:-1]:
        raise DataError(
            f"{row.place}: 'chosen' and 'rejected' answer different conversations.",
            mend="Give both the same turns up to their last one.",
        )
    if chosen[-1]["content"] == rejected[-1]["content"]:
        raise DataError(f"{row.place}: both replies are the same.", mend="Delete the row: it holds no choice.")
    said = {column: str(row.fields.get(column) or "") for column in ("value", "category", "by", "source")}
    return Pair(tuple(chosen[:-1]), chosen[-1]["content"], rejected[-1]["content"], margin=_margin(row), **said)


def _asked(row: Row) -> list[Turn]:
    """Return what `prompt` holds, up to and with the user's last turn."""
    turns = _conversation(row, "prompt")
    if turns[-1]["role"] == "assistant" and not turns[-1]["content"]:
        turns = turns[:-1]  # a transcript that ends where the reply begins
    if not turns or turns[-1]["role"] != "user":
        raise DataError(f"{row.place}: 'prompt' does not end with a request.", mend="End it with the user's turn.")
    return turns


def _whole(row: Row, column: str, begun: list[Turn]) -> list[Turn]:
    """Return a conversation with its reply, the last turn.

    What `prompt` says may stand once more at the beginning of the column; it is the same conversation all the same.
    """
    found = row.fields[column]
    turns = _conversation(row, column)
    if begun and turns[: len(begun)] != begun:
        if isinstance(found, str) and turns == [{"role": "user", "content": found}]:
            turns = [{"role": "assistant", "content": found.strip()}]
        if turns[0]["role"] == "user":
            raise DataError(
                f"{row.place}: {column!r} is a conversation that 'prompt' does not begin.",
                mend="Leave 'prompt' out, or give the reply alone.",
            )
        turns = begun + turns
    if len(turns) < 2 or turns[-1]["role"] != "assistant":
        raise DataError(
            f"{row.place}: {column!r} is no reply to a request.",
            mend="Give the row a 'prompt', or write the whole conversation, the reply last.",
        )
    if not turns[-1]["content"].strip():
        raise DataError(f"{row.place}: {column!r} holds no text.", mend="Fill it in, or delete the row.")
    return turns


def _conversation(row: Row, column: str) -> list[Turn]:
    """Return what a column holds as turns: a transcript, a list of messages, or a text, which is the user's."""
    found: Any = row.fields[column]
    if isinstance(found, str):
        parts = _TURN.split("\n\n" + found.lstrip())
        if len(parts) == 1 or parts[0].strip():  # a text that only quotes a dialogue is a text
            if not found.strip():
                raise DataError(f"{row.place}: {column!r} holds no text.", mend="Fill it in, or delete the row.")
            return [{"role": "user", "content": found}]
        spoken = zip(parts[1::2], parts[2::2], strict=True)
        return [{"role": _ROLES[who], "content": text.strip()} for who, text in spoken]
    if (
        isinstance(found, list)
        and found
        and all(
            isinstance(turn, dict) and isinstance(turn.get("role"), str) and isinstance(turn.get("content"), str)
            for turn in found
        )
    ):
        return [{"role": turn["role"], "content": turn["content"]} for turn in found]
    raise DataError(
        f"{row.place}: {column!r} is neither a text nor a list of messages.",
        mend='Write a text, or turns like {"role": "user", "content": "..."}.',
    )


def _margin(row: Row) -> float:
    found = row.fields.get("margin")
    try:
        margin = float(found or 0.0)
    except (TypeError, ValueError):
        margin = float("nan")
    if not 0 <= margin < float("inf"):
        raise DataError(f"{row.place}: margin {found!r} is no number from 0 up.", mend="Mend it, or leave it out.")
    return margin
