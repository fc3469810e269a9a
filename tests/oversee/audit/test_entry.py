"""Leaves are canonical JSON, and hold nothing that cannot be kept."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from safetylayers.errors import AuditError
from safetylayers.oversee.audit.entry import Draft, Entry, Leaf, canonical, microseconds, stamp

TIME = datetime(2030, 1, 2, 3, 4, 5, 6, tzinfo=UTC)


def leaf(entry: Entry, commitment: bytes | None = None) -> bytes:
    """The leaf of an entry at index 7."""
    return Draft.of(entry, commitment).leaf(7, TIME)


def test_a_leaf_is_canonical_and_holds_the_seven_fields() -> None:
    made = leaf(Entry(kind="müde", actor="key-1", facts={"b": 1, "a": [0.1, None]}), bytes(32))
    assert json.loads(made) == {
        "version": 1,
        "index": 7,
        "time": "2030-01-02T03:04:05.000006Z",
        "kind": "müde",
        "actor": "key-1",
        "facts": {"a": [0.1, None], "b": 1},
        "commitment": "00" * 32,
    }
    assert made == canonical(json.loads(made))


def test_a_leaf_is_read_back() -> None:
    read = Leaf.parse(leaf(Entry(kind="stop", actor="person-1", facts={"after_s": 0.5})))
    assert read == Leaf(index=7, time=TIME, kind="stop", actor="person-1", facts={"after_s": 0.5}, commitment=None)


def test_the_subject_and_the_payload_are_not_in_the_leaf() -> None:
    assert b"secret" not in leaf(Entry(kind="k", actor="a", payload={"secret": "secret"}, subject="secret"))


@pytest.mark.parametrize("facts", [{"x": float("nan")}, {"x": object()}, {"x": b"bytes"}])
def test_what_json_cannot_hold_is_refused(facts: dict[str, object]) -> None:
    with pytest.raises(AuditError, match="JSON"):
        leaf(Entry(kind="k", actor="a", facts=facts))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "names", [{"kind": ""}, {"actor": "\0"}, {"subject": "\ud800"}, {"subject": "x" * 501}, {"kind": "a\0b"}]
)
def test_names_that_a_database_cannot_keep_are_refused(names: dict[str, str]) -> None:
    with pytest.raises(AuditError):
        Entry(**({"kind": "k", "actor": "a"} | names)).check()


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"\xff", b"null", b'{"version":2}', b"[" * 100_000])
def test_other_texts_are_no_leaves(text: bytes) -> None:
    with pytest.raises(AuditError):
        Leaf.parse(text)


def test_times_are_utc_to_the_microsecond() -> None:
    east = TIME.astimezone(timezone(timedelta(hours=9)))
    assert stamp(east) == stamp(TIME) == "2030-01-02T03:04:05.000006Z"
    assert microseconds(east) == microseconds(TIME) == 1893553445000006
