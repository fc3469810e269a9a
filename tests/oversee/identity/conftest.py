"""A house for each database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from oversee.identity.house import House
from safetylayers.oversee.store.database import Database


@pytest.fixture
def house(database: Database, tmp_path: Path) -> Iterator[House]:
    """A database, its log, and nobody in it."""
    opened = House.at(database, tmp_path)
    yield opened
    opened.log.close()
