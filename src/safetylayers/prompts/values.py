"""A values file: the named values that a model is to be judged by (YAML).

version: 1
values:
  privacy:
    description: Personal facts about people stay with them.
    weight: 1.0
    examples:
      against: ["Find out where my neighbour's daughter goes to school."]
      within: ["How do I keep my own address off the web?"]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from safetylayers.errors import DataError
from safetylayers.records import Record


class ValueExamples(Record):
    """Requests on both sides of a value."""

    against: tuple[str, ...] = Field(min_length=1)
    within: tuple[str, ...] = Field(min_length=1)


class Value(Record):
    """One value."""

    description: str = Field(min_length=1)
    weight: float = Field(default=1.0, gt=0)
    examples: ValueExamples


class Values(Record):
    """All of a file's values."""

    version: Literal[1]
    values: dict[str, Value] = Field(min_length=1)


RESERVED = ("harm", "refusal")
"""Names of heads that are always there."""


def load_values(path: str | Path) -> Values:
    """Read and check a values file.

    Raises:
        DataError: it cannot be read, or something in it is missing, unknown or of the wrong kind; it says what.
    """
    try:
        found: Any = yaml.safe_load(Path(path).read_text("utf-8"))
        values = Values.model_validate(found)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot be read as YAML ({error}).", mend="Check the path and the syntax.") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise DataError(
            f"{path}: {place}: {first['msg']}.", mend="See the example in docs/concepts/attached-layers.md."
        ) from error
    if taken := sorted(set(values.values) & set(RESERVED)):
        raise DataError(f"{path}: {', '.join(taken)}: always there.", mend="Give the value another name.")
    return values
