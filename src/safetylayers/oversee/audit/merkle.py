"""Merkle trees as RFC 9162 section 2.1 defines them: hashes, the growing edge, and proofs.

A proof's maker asks for the roots of ranges of leaves, so that it need not hold the leaves; `MTH` is the RFC's name for
the root of a list of leaves.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

from safetylayers.errors import AuditError

HASH_BYTES = 32

RangeRoot = Callable[[int, int], bytes]
"""`root(start, stop)`: MTH of the leaves from start up to, but without, stop."""


def leaf_hash(leaf: bytes) -> bytes:
    """Return the hash of a leaf."""
    return sha256(b"\0" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node."""
    return sha256(b"\1" + left + right).digest()


class Frontier:
    """The edge of a tree that only grows: the roots of its perfect subtrees, the largest first."""

    __slots__ = ("_roots", "size")

    def __init__(self) -> None:
        self.size = 0
        self._roots: list[bytes] = []

    def append(self, hashed: bytes) -> None:
        """Add a leaf's hash."""
        for _ in range(_trailing_ones(self.size)):
            hashed = node_hash(self._roots.pop(), hashed)
        self._roots.append(hashed)
        self.size += 1

    def root(self) -> bytes:
        """Return the tree's root."""
        if not self._roots:
            return sha256(b"").digest()
        *rest, root = self._roots
        for left in reversed(rest):
            root = node_hash(left, root)
        return root

    def to_bytes(self) -> bytes:
        """Return the size as eight bytes, and the roots."""
        return self.size.to_bytes(8, "big") + b"".join(self._roots)

    @classmethod
    def from_bytes(cls, data: bytes) -> Frontier:
        """Read what `to_bytes` wrote. Raises AuditError."""
        frontier = cls()
        frontier.size, roots = int.from_bytes(data[:8], "big"), data[8:]
        if len(data) < 8 or len(roots) != HASH_BYTES * frontier.size.bit_count():
            raise AuditError("The edge of the log's tree is damaged.", mend="Verify the log.")
        frontier._roots = [roots[start : start + HASH_BYTES] for start in range(0, len(roots), HASH_BYTES)]
        return frontier


def tree_root(hashes: Iterable[bytes]) -> bytes:
    """Return MTH of leaves of these hashes."""
    frontier = Frontier()
    for hashed in hashes:
        frontier.append(hashed)
    return frontier.root()


def prove_inclusion(index: int, size: int, root: RangeRoot) -> list[bytes]:
    """Return the path that shows a leaf in a tree (RFC 9162, 2.1.3.1).

    Raises:
        AuditError: there is no such leaf.
    """
    if not 0 <= index < size:
        raise AuditError(f"There is no entry {index} among {size}.", mend="Entries count from 0.")
    start, stop, path = 0, size, []
    while stop - start > 1:
        middle = start + _split(stop - start)
        if index < middle:
            path.append(root(middle, stop))
            stop = middle
        else:
            path.append(root(start, middle))
            start = middle
    return path[::-1]


def check_inclusion(hashed: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Return whether the path shows the leaf's hash at this index of the tree (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    node, last = index, size - 1
    for sibling in path:
        if last == 0:
            return False
        if node & 1 or node == last:
            hashed = node_hash(sibling, hashed)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            hashed = node_hash(hashed, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and hmac.compare_digest(hashed, root)


def prove_consistency(old: int, new: int, root: RangeRoot) -> list[bytes]:
    """Return the path that shows that a tree only grew (RFC 9162, 2.1.4.1).

    Raises:
        AuditError: the old tree is empty or larger than the new one.
    """
    if not 0 < old <= new:
        raise AuditError(f"{new} entries have not grown from {old}.", mend="Give the smaller size first.")
    start, stop, whole, path = 0, new, True, []
    while old != stop:
        middle = start + _split(stop - start)
        if old <= middle:
            path.append(root(middle, stop))
            stop = middle
        else:
            path.append(root(start, middle))
            start, whole = middle, False
    if not whole:
        path.append(root(start, stop))
    return path[::-1]


def check_consistency(old: int, old_root: bytes, new: int, new_root: bytes, path: Sequence[bytes]) -> bool:
    """Return whether the path shows that the new tree begins with the old one (RFC 9162, 2.1.4.2)."""
    if not 0 < old <= new:
        return False
    if old == new:
        return not path and hmac.compare_digest(old_root, new_root)
    steps = list(path) if old & (old - 1) else [old_root, *path]
    if not steps:
        return False
    skipped = _trailing_ones(old - 1)
    node, last = (old - 1) >> skipped, (new - 1) >> skipped
    found_old = found_new = steps[0]
    for sibling in steps[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            found_old, found_new = node_hash(sibling, found_old), node_hash(sibling, found_new)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            found_new = node_hash(found_new, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and hmac.compare_digest(found_old, old_root) and hmac.compare_digest(found_new, new_root)


def _split(size: int) -> int:
    """The largest power of two below a size of at least two."""
    return 1 << ((size - 1).bit_length() - 1)


def _trailing_ones(number: int) -> int:
    return ((~number) & (number + 1)).bit_length() - 1
