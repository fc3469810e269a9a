"""Results as typed records: immutable, checked on reading, written whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, computed_field, model_validator

from safetylayers.errors import DataError, OutputError
from safetylayers.stats import Interval, bootstrap_mean, paired_bootstrap, wilson

ProgressCallback = Callable[[int, int, str], None]
"""Told of long work as `progress(done, total, what)`."""

_RECORDED_PACKAGES = ("safetylayers", "torch", "transformers", "peft", "accelerate", "numpy", "scikit-learn")


class Record(BaseModel):
    """A result. Unknown fields and NaN are refused, so that a misspelt or broken result cannot pass for a good one."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def write(self, path: Path) -> Path:
        """Write as JSON, atomically. Raises OutputError."""
        return write_text(path, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read back what `write` wrote. Raises DataError."""
        try:
            fields = json.loads(path.read_text("utf-8"))
            return cls.model_validate(drop_computed(fields))
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error
        except (ValidationError, ValueError) as error:
            raise DataError(f"{path}: not a valid {cls.__name__}: {error}") from error


# Values that a record works out from others; they are written for other tools and skipped on reading.
_COMPUTED = frozenset({"value", "interval"})


def drop_computed(fields: object) -> object:
    """A JSON value without the computed fields of the rates within it."""
    if isinstance(fields, dict):
        rate = {"count", "total"} <= fields.keys()
        return {key: drop_computed(item) for key, item in fields.items() if not (rate and key in _COMPUTED)}
    if isinstance(fields, list):
        return [drop_computed(item) for item in fields]
    return fields


class Rate(Record):
    """So many of so many, with Wilson's 95 % interval."""

    count: int = Field(ge=0)
    total: int = Field(ge=0)

    @model_validator(mode="after")
    def _is_a_proportion(self) -> Self:
        if self.count > self.total:
            raise ValueError(f"{self.count} of {self.total} is not a proportion")
        return self

    @computed_field  # type: ignore[prop-decorator]  # pydantic's documented form; mypy cannot type it
    @property
    def value(self) -> float:
        """The proportion; 0 of nothing."""
        return self.count / self.total if self.total else 0.0

    @computed_field  # type: ignore[prop-decorator]
    @property
    def interval(self) -> Interval:
        """Wilson's 95 % interval of the proportion."""
        return wilson(self.count, self.total)

    @classmethod
    def of(cls, hits: Sequence[bool]) -> Rate:
        """The rate of the true ones."""
        return cls(count=sum(map(bool, hits)), total=len(hits))

    def __str__(self) -> str:
        low, high = self.interval
        return f"{100 * self.value:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


class Estimate(Record):
    """A measured number with its 95 % interval, and on how many items it rests."""

    mean: float
    low: float
    high: float
    total: int = Field(ge=0)

    @classmethod
    def of(cls, values: Sequence[float], *, seed: int = 0) -> Estimate:
        """The mean of the values, with its bootstrap interval."""
        low, high = bootstrap_mean(values, seed=seed)
        return cls(mean=sum(values) / len(values), low=low, high=high, total=len(values))


class Difference(Record):
    """How a measure moved against a baseline on the same items, with its paired bootstrap interval."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, before: Sequence[float], after: Sequence[float], *, seed: int = 0) -> Difference:
        """mean(after) - mean(before), items paired by position."""
        low, high = paired_bootstrap(before, after, seed=seed)
        mean = sum(after) / len(after) - sum(before) / len(before)
        return cls(mean=mean, low=low, high=high)


def library_versions() -> dict[str, str]:
    """Versions of the libraries that can change a result."""
    found = {}
    for package in _RECORDED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


class Provenance(Record):
    """Where a result comes from: enough to make it again."""

    model: str
    """The model as the user named it."""
    model_hash: str
    """`ChatModel.weights_hash`."""
    data: dict[str, str] = {}
    """Name of each prompt or data set -> its content hash."""
    seed: int = 0
    versions: dict[str, str] = Field(default_factory=library_versions)
    created: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    """ISO 8601, UTC."""


def write_with_tensors(folder: Path, record: tuple[str, Record], save: Callable[[Path], object], *, what: str) -> Path:
    """Write tensors into a folder, then the record that goes with them, and return the folder.

    Args:
        folder: made if missing.
        record: its file's name, and the record. Without that file, half-written tensors are never taken for whole ones.
        save: writes the tensors into the folder, by safetensors.
        what: they are, for the message.

    Raises:
        OutputError: they cannot be written.
    """
    from safetensors import SafetensorError

    name, content = record
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).unlink(missing_ok=True)
        save(folder)
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"{folder}: the {what} cannot be written ({getattr(error, 'strerror', None) or error}).",
            mend="Free some room or choose another folder with -o.",
        ) from error
    content.write(folder / name)
    return folder


def write_text(path: Path, text: str) -> Path:
    """Write a file whole or not at all. Raises OutputError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.parent / f".{path.name}.{secrets.token_hex(8)}"
        try:
            with scratch.open("x", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(path)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror})", mend="Free some room or choose another folder with -o."
        ) from error
    return path
