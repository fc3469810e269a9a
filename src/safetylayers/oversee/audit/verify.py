"""Verifying a log: every row against the tree, the tree against every checkpoint, and what is gone against the log.

What each kind of tampering runs into:

a changed leaf, hash, column or payload    the row's own checks
deleted or reordered rows                  the indices, in the rows and in the leaves
a cut tail                                 the head; a kept checkpoint where the head was put back as well
a log that was rewritten                   the checkpoints' signatures; kept checkpoints where the log's key was used
payloads or keys that were taken away      the counts in the log's own entries of erasure
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from pydantic import Field
from sqlalchemy import Connection, select

from safetylayers.errors import AuditError
from safetylayers.oversee.audit.checkpoint import Verifier
from safetylayers.oversee.audit.entry import Leaf, microseconds
from safetylayers.oversee.audit.merkle import Frontier, leaf_hash
from safetylayers.oversee.audit.reading import opening
from safetylayers.oversee.audit.removal import ERASE, EXPIRE
from safetylayers.oversee.audit.rows import EntryRow, all_rows
from safetylayers.oversee.audit.tables import log_head
from safetylayers.oversee.audit.vault import Vault
from safetylayers.oversee.audit.vouching import KeptCheckpoints, StoredCheckpoints
from safetylayers.oversee.store.database import Database
from safetylayers.records import Record

PATIENCE_S = 60.0
"""How long the database waits while a page is verified. A busy process can take seconds for it."""
MOST_PROBLEMS = 100
"""More are counted and not described."""


class Problem(Record):
    """Something that is not as it was logged."""

    index: int | None
    """The first entry that it concerns; None where it concerns none or cannot be said."""
    text: str


class Verification(Record):
    """What came of verifying a log."""

    size: int = Field(ge=0)
    """Entries that were found."""
    root: str
    """The root of their tree, in hexadecimal."""
    ok: bool
    first_bad: int | None = None
    """The first entry that is not as it was logged, or that nothing vouches for."""
    problems: tuple[Problem, ...] = ()
    left_out: int = Field(default=0, ge=0)
    """Problems beyond those described."""
    vouched: int = Field(default=0, ge=0)
    """Entries under the largest checkpoint that was kept elsewhere and fits; 0 where none was given."""


def verify(
    database: Database,
    verifier: Verifier,
    *,
    vault: Vault | None = None,
    kept: Iterable[str] = (),
    own: Iterable[str] = (),
) -> Verification:
    """Verify a whole log, holding a page of it at a time.

    Args:
        database: where the log is.
        verifier: the log's public key, as it was given to the auditor and not as the database says.
        vault: what opens payloads. Without it they are not compared with their commitments.
        kept: checkpoints that were kept elsewhere, as signed notes; `read_witness` reads a file of them. Only they
            show that a log was cut or rewritten by somebody who has the log's key.
        own: checkpoints in the log's own witness file. They show as much, to whoever believes that file.

    Raises:
        StoreError: the database does not answer.
    """
    elsewhere, here = KeptCheckpoints(kept, verifier), KeptCheckpoints(own, verifier)
    with database.read(patience_s=PATIENCE_S) as connection:
        return _Check(connection, verifier, vault, elsewhere, here).run()


class _Check:
    """One walk through the log."""

    def __init__(
        self,
        connection: Connection,
        verifier: Verifier,
        vault: Vault | None,
        kept: KeptCheckpoints,
        own: KeptCheckpoints,
    ) -> None:
        self.problems: list[Problem] = []
        self.left_out = 0
        self.first_bad: int | None = None
        self.connection = connection
        self.vault = vault
        self.tree = Frontier()
        self.next = 0  # the index that comes next, missing rows counted in
        self.gone: Counter[str] = Counter()
        self.kept, self.own = kept, own
        self.stored = StoredCheckpoints(connection, verifier)

    def run(self) -> Verification:
        for row in all_rows(self.connection):
            self._row(row)
        self._head()
        self._checkpoints()
        self._edge()
        self._removals()
        return Verification(
            size=self.tree.size,
            root=self.tree.root().hex(),
            ok=not self.problems,
            first_bad=self.first_bad,
            problems=tuple(self.problems),
            left_out=self.left_out,
            vouched=self.kept.vouched,
        )

    def _found(self, index: int | None, text: str) -> None:
        if index is not None:
            self.first_bad = index if self.first_bad is None else min(index, self.first_bad)
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(Problem(index=index, text=text))
        else:
            self.left_out += 1

    def _row(self, row: EntryRow) -> None:
        if row.index > self.next:
            missing = f"{self.next} is" if row.index == self.next + 1 else f"{self.next} to {row.index - 1} are"
            self._found(self.next, f"Missing: {missing} not in the log.")
        self.next = row.index + 1
        hashed = leaf_hash(row.leaf)
        text = self._wrong_with(row, hashed)
        if text:
            self._found(row.index, f"Entry {row.index}: {text}")
        self.tree.append(hashed)
        if self.tree.size == self.next:  # with rows missing, no root can be compared
            self.own.meet(self.tree)
            self.kept.meet(self.tree)
            self.stored.meet(self.tree)

    def _wrong_with(self, row: EntryRow, hashed: bytes) -> str | None:
        if hashed != row.leaf_hash:
            return "its leaf and the leaf's hash do not fit."
        try:
            leaf = Leaf.parse(row.leaf)
        except AuditError as error:
            return error.message
        if leaf.index != row.index:
            return f"it was logged as entry {leaf.index}."
        if leaf.kind != row.kind:
            return f"it is filed as {row.kind!r} and was logged as {leaf.kind!r}."
        return self._wrong_with_payload(row, leaf)

    def _wrong_with_payload(self, row: EntryRow, leaf: Leaf) -> str | None:
        if leaf.kind in (ERASE, EXPIRE):
            for what in ("keys", "payloads"):
                count = leaf.facts.get(what)
                self.gone[what] -= count if isinstance(count, int) else 0
        if leaf.commitment is None:
            return None if row.ciphertext is None and row.wrapped is None else "it was logged without a payload."
        self.gone["keys"] += row.wrapped is None
        self.gone["payloads"] += row.ciphertext is None
        if row.time is not None and row.time != microseconds(leaf.time):
            return "its payload is filed under another time."
        state, _ = opening(row, leaf, self.vault)
        return "its payload is not the one that was logged." if state == "damaged" else None

    def _checkpoints(self) -> None:
        """Report what checkpoints say, unless a problem that was found already explains it."""
        vouched = max(self.own.vouched, self.kept.vouched)
        # The log's own are the finest, and tell most exactly where it goes wrong.
        kept = (*self.own.failures(self.next), *self.kept.failures(self.next))
        for failure in (*kept, *self.stored.failures(self.next, vouched)):
            if failure.start is None or not self._explained(failure.start, failure.stop):
                self._found(failure.start, failure.text)

    def _explained(self, start: int, stop: int) -> bool:
        return any(problem.index is not None and start <= problem.index < stop for problem in self.problems)

    def _head(self) -> None:
        size = self.connection.execute(select(log_head.c.size)).scalar_one_or_none()
        if size is None:
            if self.next:
                self._found(None, "The log's head is missing.")
        elif size > self.next:
            text = f"Cut: the log's head counts {size} entries, and those from {self.next} on are missing."
            self._found(self.next, text)
        elif size < self.next:
            self._found(size, f"Added: the log's head counts {size} entries; those from {size} on were not logged.")

    def _edge(self) -> None:
        """Compare the edge that the next entry would be added to; where entries are wrong, so is the edge."""
        edge = self.connection.execute(select(log_head.c.frontier)).scalar_one_or_none()
        if edge is not None and edge != self.tree.to_bytes() and not self.problems:
            self._found(None, "The edge of the tree, in the log's head, is not that of the entries.")

    def _removals(self) -> None:
        for what, count in self.gone.items():
            if count > 0:
                self._found(None, f"Taken away: {count} {what} are gone, and no entry of an erasure accounts for them.")
