"""A log, and one with entries in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from safetylayers.oversee.audit import AuditLog, Entry, LogKeys, Verification, read_witness, verify
from safetylayers.oversee.store.database import Database

ORIGIN = "example.org/log"


@pytest.fixture
def keys(tmp_path: Path) -> LogKeys:
    """A log's keys, made for this test."""
    return LogKeys.open(tmp_path / "keys")


@pytest.fixture
def witness(tmp_path: Path) -> Path:
    """Where the log writes its checkpoints."""
    return tmp_path / "witness"


@pytest.fixture
def log(database: Database, keys: LogKeys, witness: Path) -> Iterator[AuditLog]:
    """An empty log."""
    made = AuditLog(database, keys, origin=ORIGIN, witness=witness)
    yield made
    made.close()


@pytest.fixture
def filled(log: AuditLog) -> AuditLog:
    """A log of twenty entries, in batches of four; those of odd index have a payload."""
    for first in range(0, 20, 4):
        with log.database.write() as connection:
            log.append_in(connection, [_entry(index) for index in range(first, first + 4)])
    return log


@pytest.fixture
def verified(filled: AuditLog, keys: LogKeys, witness: Path) -> Callable[..., Verification]:
    """Verifies the log, with the kept checkpoints where `kept` says so."""

    def run(*, kept: bool = False) -> Verification:
        notes = read_witness(witness) if kept else []
        return verify(filled.database, filled.verifier, vault=keys.vault, kept=notes)

    return run


def _entry(index: int) -> Entry:
    payload = {"text": f"What is {index} and {index}?"} if index % 2 else None
    kind = "request" if index % 2 else "mode"
    return Entry(kind=kind, actor="key-1", facts={"n": index}, payload=payload, subject=f"person-{index % 4}")
