"""Rows from files and from the hub, each with a place that an error message can point to.

Line numbers matter to whoever has to mend the file, so JSONL and CSV are read here line by line; Parquet and the hub go
through `datasets`, where a row has a number and no line.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetylayers.errors import DataError

FORMATS = (".jsonl", ".json", ".csv", ".parquet")


@dataclass(frozen=True)
class Row:
    """One row, and where it stands: "rows.jsonl, line 17"."""

    place: str
    fields: dict[str, Any]

    @property
    def columns(self) -> str:
        """The names of its columns, for a message."""
        return ", ".join(map(str, self.fields)) or "none"


def read_rows(source: str | Path, *, split: str = "train") -> Iterator[Row]:
    """Yield the rows of a JSONL, CSV, JSON or Parquet file, or of a hub data set's `split`.

    Raises:
        DataError: the source cannot be found or read, or is empty.
    """
    path = Path(source)
    is_file = path.suffix.lower() in FORMATS or path.exists()
    rows = _read_file(path) if is_file else _read_hub(str(source), split)
    empty = True
    for row in rows:
        empty = False
        yield row
    if empty:
        raise DataError(f"{source}: no rows.", mend="The file is empty: write at least one row into it.")


def _read_file(path: Path) -> Iterator[Row]:
    reader = {".jsonl": _read_jsonl, ".json": _read_json, ".csv": _read_csv, ".parquet": _read_parquet}.get(
        path.suffix.lower()
    )
    if reader is None:
        raise DataError(f"{path}: unknown kind of file.", mend=f"Use one of: {', '.join(FORMATS)}.")
    try:
        yield from reader(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.", mend="Check the path.") from None
    except UnicodeDecodeError as error:
        line = _first_undecodable_line(path)
        raise DataError(f"{path}, line {line}: not UTF-8 text.", mend="Save the file as UTF-8.") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).", mend="Check the file's permissions.") from error


def _first_undecodable_line(path: Path) -> int:
    """Count lines from 1. The decoder itself knows no lines, for it reads in blocks."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 1


def _read_jsonl(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _object(_parse(line.rstrip(), path, number), f"{path}, line {number}")


def _read_json(path: Path) -> Iterator[Row]:
    found = _parse(path.read_text("utf-8-sig") or "[]", path)
    if not isinstance(found, list):
        raise DataError(f"{path}: not a list of rows.", mend='Write it as [{"prompt": "..."}, ...].')
    for number, item in enumerate(found, start=1):
        yield _object({"prompt": item} if isinstance(item, str) else item, f"{path}, row {number}")


def _read_csv(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        try:
            for fields in reader:
                place = f"{path}, line {reader.line_num}"
                if None in fields:
                    raise DataError(
                        f"{place}: more cells than the header has columns.",
                        mend="Put cells that hold a comma into double quotes.",
                    )
                yield Row(place, fields)
        except csv.Error as error:
            raise DataError(
                f"{path}, line {reader.line_num}: {error}.", mend="Mend the quoting of that line."
            ) from error


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowInvalid as error:
        raise DataError(f"{path}: not a Parquet file ({error}).", mend="Write the file again.") from error
    for number, fields in enumerate(table.to_pylist(), start=1):
        yield Row(f"{path}, row {number}", fields)


def _read_hub(name: str, split: str) -> Iterator[Row]:
    import datasets

    try:
        found = datasets.load_dataset(name, split=split)
    except Exception as error:  # the hub client raises a great many kinds; all of them mean that there is no data
        raise DataError(
            f"{name}: neither a file nor a data set on the hub ({type(error).__name__}).",
            mend=f"Check the path or the name, the network, and that the data set has a split {split!r}.",
        ) from error
    for number, fields in enumerate(found, start=1):
        yield Row(f"{name}, row {number}", dict(fields))


def _parse(text: str, path: Path, first: int = 1) -> Any:
    """Parse JSON that begins on line `first` of a file."""
    try:
        found = json.loads(text)
        if "\\ud" in text.lower():  # half a character can be written so, and nothing that is text can hold it
            json.dumps(found, ensure_ascii=False).encode()
        return found
    except json.JSONDecodeError as error:
        at = f"{path}, line {first + error.lineno - 1}, column {error.colno}"
        raise DataError(f"{at}: not valid JSON ({error.msg}).", mend="Mend that line.") from error
    except UnicodeEncodeError as error:
        raise DataError(
            f"{path}, line {first}: half a character (a lone surrogate).", mend="Write the file again as UTF-8."
        ) from error


def _object(fields: Any, place: str) -> Row:
    if not isinstance(fields, dict):
        raise DataError(f"{place}: not a JSON object.", mend='Write each row as {"prompt": "..."}.')
    return Row(place, fields)
