"""Prompt sets from a built-in name, a file, or the hub."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from safetylayers.errors import DataError
from safetylayers.prompts.builtin import BUILTIN_NAMES, builtin
from safetylayers.prompts.prompt_set import Prompt, PromptSet
from safetylayers.prompts.table import Row, read_rows

PROMPT_COLUMNS = ("prompt", "text", "instruction", "question", "goal", "behavior", "messages")
"""Tried in this order where no column is named."""


def load_prompts(
    source: str | Path, *, column: str | None = None, split: str = "train", limit: int | None = None
) -> PromptSet:
    """Load a built-in set ("malicious", "malicious/test"), a JSONL, CSV, JSON or Parquet file, or a hub data set.

    Args:
        source: name, path or hub id.
        column: which column holds the request; by itself, the first of `PROMPT_COLUMNS` that there is.
        split: of a hub data set.
        limit: at most so many prompts, the first ones.

    Raises:
        DataError: the source cannot be read, is empty, lacks the column, or a row has no text; it says where.
        UsageError: a built-in set has no such split.
    """
    name, _, part = str(source).partition("/")
    if name in BUILTIN_NAMES and not Path(source).exists():
        chosen = builtin(name, part or None)
        return chosen.take(limit) if limit else chosen
    prompts: list[Prompt] = []
    for number, row in enumerate(islice(read_rows(source, split=split), limit), start=1):
        column = column or _find_column(row)
        prompts.append(
            Prompt(
                id=_field(row, "id") or str(number),
                text=prompt_text(row, column),
                category=_field(row, "category"),
                answer=_field(row, "answer"),
            )
        )
    return PromptSet(Path(source).stem, tuple(prompts))


def _field(row: Row, name: str) -> str:
    """Return a field as text; empty where it is missing. A 0 is not missing."""
    value = row.fields.get(name)
    return "" if value is None else str(value)


def _find_column(row: Row) -> str:
    for name in PROMPT_COLUMNS:
        if name in row.fields:
            return name
    raise DataError(
        f"{row.place}: no column with prompts. It has: {row.columns}.",
        mend=f"Give one of the columns the name {', '.join(PROMPT_COLUMNS[:-1])} or {PROMPT_COLUMNS[-1]}.",
    )


def prompt_text(row: Row, column: str) -> str:
    """Return the request in one row; of a list of messages, the first user's.

    Raises:
        DataError: the column is missing or holds no text.
    """
    if column not in row.fields:
        raise DataError(
            f"{row.place}: no column {column!r}. It has: {row.columns}.",
            mend=f"Give every row a {column!r}.",
        )
    value: Any = row.fields[column]
    if column == "messages" and isinstance(value, list):
        value = next((m.get("content") for m in value if isinstance(m, dict) and m.get("role") == "user"), None)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{row.place}: {column!r} holds no text.", mend="Fill it in, or delete the row.")
    return value.strip()
