"""What people are asked: which of two replies to a conversation is better."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from safetylayers.errors import DataError
from safetylayers.prompts.pairs import Pair, Turn, read_pair
from safetylayers.prompts.prompt_set import content_hash
from safetylayers.prompts.table import Row, read_rows

ROLES = ("user", "assistant", "system")
"""Who speaks in a conversation. It is shown to people as our own word, so a file may not say just anything there."""
_MEND = 'Give every row a "prompt" and two different replies, "first" and "second".'


@dataclass(frozen=True)
class Question:
    """Two replies to one conversation.

    Their order follows from their texts' hashes. So it says nothing of which was chosen before, and the same two
    replies are the same question wherever they come from.
    """

    id: str
    """Known by conversation, replies and value; 16 hex digits."""
    messages: tuple[Turn, ...]
    first: str
    second: str
    value: str = ""
    """Which named value is asked about; empty for the reply as a whole."""
    category: str = ""

    @classmethod
    def of(cls, messages: tuple[Turn, ...], one: str, other: str, *, value: str = "", category: str = "") -> Question:
        """Return the question which of two replies is better."""
        first, second = sorted((one, other), key=lambda text: hashlib.sha256(text.encode()).digest())
        said = [part for turn in messages for part in (turn["role"], turn["content"])]
        return cls(content_hash([said, [first, second, value]])[:16], messages, first, second, value, category)

    def pair(self, first_is_better: bool, *, by: str = "") -> Pair:
        """Return the choice of one of the two."""
        chosen, rejected = (self.first, self.second) if first_is_better else (self.second, self.first)
        return Pair(self.messages, chosen, rejected, value=self.value, category=self.category, by=by)

    def to_json(self) -> str:
        """Return it as one line."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read back what `to_json` wrote. Raises ValueError, KeyError or TypeError where that is damaged."""
        fields = json.loads(text)
        return cls(**{**fields, "messages": tuple(fields["messages"])})


def load_questions(source: str | Path) -> list[Question]:
    """Load what is to be asked, from a file or the hub.

    A row has `first` and `second`, two replies, and `prompt`, a text or a list of messages; perhaps `value` and
    `category`. Or it is a choice, as `read_pair` reads it; which reply was chosen is then forgotten.

    Raises:
        DataError: the source cannot be read, is empty, or a row is malformed; it says where.
    """
    found = [_read(row) for row in read_rows(source)]
    return list({question.id: question for question in found}.values())


def _read(row: Row) -> Question:
    question = _of_pair(read_pair(row)) if _is_choice(row) else _question(row)
    if unknown := [turn["role"] for turn in question.messages if turn["role"] not in ROLES]:
        raise DataError(f"{row.place}: there is no role {unknown[0]!r}.", mend=f"Use one of: {', '.join(ROLES)}.")
    return question


def _is_choice(row: Row) -> bool:
    """Return whether it says which reply was chosen; in a table, rows that do not have these columns too, empty."""
    columns = ("chosen", "rejected")
    return all(column in row.fields for column in columns) and any(row.fields[column] for column in columns)


def _of_pair(pair: Pair) -> Question:
    return Question.of(pair.messages, pair.chosen, pair.rejected, value=pair.value, category=pair.category)


def _question(row: Row) -> Question:
    if missing := {"prompt", "first", "second"} - row.fields.keys():
        raise DataError(
            f"{row.place}: no {' and no '.join(map(repr, sorted(missing)))}. It has: {row.columns}.", mend=_MEND
        )
    one, other = (_reply(row, column) for column in ("first", "second"))
    if one == other:
        raise DataError(f"{row.place}: both replies are the same.", mend="Delete the row: there is nothing to ask.")
    value, category = (str(row.fields.get(column) or "") for column in ("value", "category"))
    return Question.of(_conversation(row), one, other, value=value, category=category)


def _reply(row: Row, column: str) -> str:
    found = row.fields[column]
    if not isinstance(found, str) or not found.strip():
        raise DataError(f"{row.place}: {column!r} holds no text.", mend=_MEND)
    return found.strip()


def _conversation(row: Row) -> tuple[Turn, ...]:
    found: Any = row.fields["prompt"]
    if isinstance(found, str) and found.strip():
        return ({"role": "user", "content": found},)
    try:
        turns = tuple({"role": str(turn["role"]), "content": turn["content"]} for turn in found)
    except (TypeError, KeyError):
        turns = ()
    if not turns or not all(isinstance(turn["content"], str) for turn in turns):
        raise DataError(
            f"{row.place}: 'prompt' is neither a text nor a list of messages.",
            mend='Write a text, or turns like {"role": "user", "content": "..."}.',
        )
    return turns
