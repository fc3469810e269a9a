"""Of old checkpoints a few stay, and the log verifies and is compared as before."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from oversee.audit.tampering import rewrite
from safetylayers.oversee.audit import AuditLog, thinning, verify
from safetylayers.oversee.audit.tables import checkpoints


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"FINE": 6, "STEP": 10, "PIECE": 2}.items():
        monkeypatch.setattr(thinning, name, value)


def sizes(log: AuditLog) -> list[int]:
    with log.database.read() as connection:
        return list(connection.execute(select(checkpoints.c.size).order_by(checkpoints.c.size)).scalars())


def test_the_last_of_each_step_and_all_new_ones_stay(filled: AuditLog) -> None:
    assert sizes(filled) == [4, 8, 12, 16, 20]
    assert thinning.thin(filled.database) == 1
    assert sizes(filled) == [8, 12, 16, 20]
    assert thinning.thin(filled.database) == 0
    assert verify(filled.database, filled.verifier).ok


def test_thinning_may_be_bounded_and_gone_on_with(filled: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thinning, "FINE", 0)
    monkeypatch.setattr(thinning, "STEP", 100)
    assert [thinning.thin(filled.database, pieces=1) for _ in range(5)] == [1, 1, 1, 1, 0]
    assert sizes(filled) == [20]


def test_an_empty_log_has_nothing_to_thin(log: AuditLog) -> None:
    assert thinning.thin(log.database) == 0


def test_what_was_rewritten_is_found_as_coarsely_as_checkpoints_are_left(filled: AuditLog) -> None:
    thinning.thin(filled.database)
    rewrite(filled.database, 6)
    assert verify(filled.database, filled.verifier).first_bad == 0
