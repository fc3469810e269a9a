"""Trees and proofs against RFC 9162's own definitions, whose hashes another library computes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymerkle import InmemoryTree

from safetylayers.errors import AuditError
from safetylayers.oversee.audit.merkle import (
    Frontier,
    check_consistency,
    check_inclusion,
    leaf_hash,
    prove_consistency,
    prove_inclusion,
    tree_root,
)

LEAVES = st.lists(st.binary(max_size=40), min_size=1, max_size=70)


def mth(leaves: Sequence[bytes]) -> bytes:
    """MTH of leaves, as pymerkle computes it."""
    tree = InmemoryTree(algorithm="sha256")
    for leaf in leaves:
        tree.append_entry(leaf)
    root: bytes = tree.get_root()
    return root


def split(size: int) -> int:
    """The largest power of two that is smaller."""
    k = 1
    while 2 * k < size:
        k *= 2
    return k


def rfc_path(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PATH of RFC 9162, 2.1.3.1, as it is written there."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if index < k:
        return [*rfc_path(index, leaves[:k]), mth(leaves[k:])]
    return [*rfc_path(index - k, leaves[k:]), mth(leaves[:k])]


def rfc_subproof(old: int, leaves: Sequence[bytes], whole: bool) -> list[bytes]:
    """SUBPROOF of RFC 9162, 2.1.4.1, as it is written there."""
    if old == len(leaves):
        return [] if whole else [mth(leaves)]
    k = split(len(leaves))
    if old <= k:
        return [*rfc_subproof(old, leaves[:k], whole), mth(leaves[k:])]
    return [*rfc_subproof(old - k, leaves[k:], False), mth(leaves[:k])]


def roots(leaves: Sequence[bytes]) -> object:
    """What proofs are made from."""
    return lambda start, stop: tree_root(leaf_hash(leaf) for leaf in leaves[start:stop])


def test_the_empty_tree_has_the_hash_of_nothing() -> None:
    assert Frontier().root().hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@given(LEAVES)
def test_a_frontier_has_the_root_at_every_size_and_survives_its_bytes(leaves: list[bytes]) -> None:
    frontier = Frontier()
    for size, leaf in enumerate(leaves, start=1):
        frontier.append(leaf_hash(leaf))
        assert frontier.root() == mth(leaves[:size])
        frontier = Frontier.from_bytes(frontier.to_bytes())
    assert frontier.size == len(leaves)


@given(LEAVES, st.data())
@settings(deadline=None)
def test_inclusion_is_proved_as_the_rfc_says(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    path = prove_inclusion(index, len(leaves), roots(leaves))  # type: ignore[arg-type]
    assert path == rfc_path(index, leaves)
    assert check_inclusion(leaf_hash(leaves[index]), index, len(leaves), path, mth(leaves))


@given(LEAVES, st.data())
@settings(deadline=None)
def test_consistency_is_proved_as_the_rfc_says(leaves: list[bytes], data: st.DataObject) -> None:
    old, new = data.draw(st.integers(1, len(leaves))), len(leaves)
    path = prove_consistency(old, new, roots(leaves))  # type: ignore[arg-type]
    assert path == rfc_subproof(old, leaves, True)
    assert check_consistency(old, mth(leaves[:old]), new, mth(leaves), path)


@given(LEAVES, st.data())
@settings(deadline=None)
def test_no_changed_proof_of_inclusion_holds(leaves: list[bytes], data: st.DataObject) -> None:
    size, root = len(leaves), mth(leaves)
    index = data.draw(st.integers(0, size - 1))
    hashed, path = leaf_hash(leaves[index]), rfc_path(index, leaves)
    assert not check_inclusion(leaf_hash(leaves[index] + b"."), index, size, path, root)
    assert not check_inclusion(hashed, size, size, path, root)
    assert not check_inclusion(hashed, index, size, [*path, root], root)
    if path:
        assert not check_inclusion(hashed, index, size, path[:-1], root)
        broken = data.draw(st.integers(0, len(path) - 1))
        assert not check_inclusion(hashed, index, size, [*path[:broken], bytes(32), *path[broken + 1 :]], root)


@given(LEAVES, st.data())
@settings(deadline=None)
def test_no_changed_past_is_consistent(leaves: list[bytes], data: st.DataObject) -> None:
    old, new = data.draw(st.integers(1, len(leaves))), len(leaves)
    path = rfc_subproof(old, leaves, True)
    changed = data.draw(st.integers(0, old - 1))
    other = [*leaves[:changed], leaves[changed] + b".", *leaves[changed + 1 :]]
    assert not check_consistency(old, mth(other[:old]), new, mth(leaves), path)
    assert not check_consistency(old, mth(leaves[:old]), new, mth(other), path)
    assert not check_consistency(old, mth(leaves[:old]), new, mth(leaves), [*path, bytes(32)])
    if path:
        assert not check_consistency(old, mth(leaves[:old]), new, mth(leaves), path[:-1])


def test_what_is_not_in_a_tree_cannot_be_proved() -> None:
    with pytest.raises(AuditError):
        prove_inclusion(3, 3, lambda *_: b"")
    with pytest.raises(AuditError):
        prove_consistency(0, 3, lambda *_: b"")


@pytest.mark.parametrize("data", [b"", bytes(7), (1).to_bytes(8, "big"), (3).to_bytes(8, "big") + bytes(32)])
def test_damaged_edges_are_refused(data: bytes) -> None:
    with pytest.raises(AuditError, match="damaged"):
        Frontier.from_bytes(data)
