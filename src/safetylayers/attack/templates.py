"""Jailbreak templates: the prompt is put into a text that talks the model into complying.

For testing one's own model.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from safetylayers.attack.attempts import best_text
from safetylayers.attack.base import Ground, Numbered
from safetylayers.attack.record import AttackCase, Setting
from safetylayers.errors import DataError, UsageError
from safetylayers.prompts.styles import TEMPLATES
from safetylayers.prompts.table import read_rows

COLUMNS = ("template", "prompt", "text")
"""Tried in this order, in files and on the hub."""
PLACES = ("{}", "{prompt}", "{goal}", "[INSERT PROMPT HERE]", "[PROMPT]")
"""How templates in files say where the prompt belongs."""


@dataclass(frozen=True)
class Templates:
    """Puts every prompt into drawn templates, one after the other, until all judges say that the model complied."""

    forms: tuple[str, ...] = TEMPLATES
    """With {} where the prompt belongs."""
    tries: int = 1
    """So many templates a prompt at most."""
    source: str = ""
    """A TXT file with a template a line, another file or a hub id with a column of them; it takes the forms' place."""
    name: str = "templates"

    def __post_init__(self) -> None:
        """Read the source. Raises DataError, and UsageError where a form has no place for the prompt."""
        if self.source:
            object.__setattr__(self, "forms", read_templates(self.source))
        if not self.forms or any("{}" not in form for form in self.forms):
            raise UsageError("A template has no place for the prompt.", mend="Write {} where the prompt belongs.")
        if self.tries < 1:
            raise UsageError("Templates are tried at least once.")

    def settings(self) -> dict[str, Setting]:
        """Return how many forms, the hash of their texts, and how many are tried."""
        digest = hashlib.sha256(json.dumps(self.forms).encode()).hexdigest()
        return {"forms": len(self.forms), "forms hash": digest[:16], "tries": self.tries}

    def cases(self, ground: Ground, prompts: Numbered) -> Iterator[tuple[int, AttackCase]]:
        """Yield a case a prompt."""

        def write(index: int, number: int) -> str:
            rng = random.Random(f"{ground.seed} {index}")  # noqa: S311 - not a secret
            return rng.sample(self.forms, len(self.forms))[number].replace("{}", prompts[index])

        yield from best_text(ground, prompts, write, tries=min(self.tries, len(self.forms)), what=self.name)


def read_templates(source: str) -> tuple[str, ...]:
    """Return the templates of a TXT, JSONL, CSV, JSON or Parquet file, or of a hub data set, with {} for the prompt.

    Raises:
        DataError: the source cannot be read, is empty, or a row holds no template.
    """
    if Path(source).suffix.lower() == ".txt":
        return tuple(_form(line, f"{source}, line {number}") for number, line in _lines(Path(source)))
    found = []
    for row in read_rows(source):
        text = next((row.fields[column] for column in COLUMNS if column in row.fields), None)
        if not isinstance(text, str):
            raise DataError(
                f"{row.place}: no column with templates. It has: {row.columns}.",
                mend=f"Give one of the columns the name {', '.join(COLUMNS[:-1])} or {COLUMNS[-1]}.",
            )
        found.append(_form(text, row.place))
    return tuple(found)


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text.", mend="Check the path; save the file as UTF-8.") from error
    found = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not found:
        raise DataError(f"{path}: no templates.", mend="Write one a line, with {} where the prompt belongs.")
    return found


def _form(text: str, place: str) -> str:
    """Return a template with {} where the prompt belongs."""
    marker = next((marker for marker in PLACES if marker in text), None)
    if marker is None:
        raise DataError(f"{place}: no place for the prompt.", mend="Write {} where the prompt belongs.")
    return text.strip().replace(marker, "{}")
