"""Which entries the checkpoints vouch for: those under the largest one that is signed and fits the tree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, select

from safetylayers.errors import AuditError
from safetylayers.oversee.audit.checkpoint import Checkpoint, Verifier
from safetylayers.oversee.audit.merkle import Frontier
from safetylayers.oversee.audit.rows import PAGE
from safetylayers.oversee.audit.tables import checkpoints, log_head


@dataclass(frozen=True, slots=True)
class Failure:
    """A checkpoint that does not fit."""

    start: int | None
    """The first entry that nothing vouches for; None where the checkpoint alone is wrong."""
    stop: int
    """The checkpoint's size."""
    text: str


class KeptCheckpoints:
    """Checkpoints that were kept elsewhere: where one is signed and does not fit, the log was changed."""

    def __init__(self, notes: Iterable[str], verifier: Verifier) -> None:
        self.vouched = 0
        """How many entries they vouch for."""
        self._broken: list[Failure] = []
        self._waiting = sorted(self._signed(notes, verifier), key=lambda kept: kept.size, reverse=True)
        self._misfit: Failure | None = None

    def meet(self, tree: Frontier) -> None:
        """Compare the checkpoints of the tree's size. Sizes come in rising order."""
        while self._waiting and self._waiting[-1].size <= tree.size:
            kept = self._waiting.pop()
            if self._misfit or kept.size < tree.size:
                continue  # later ones contradict the tree as well; at smaller sizes, rows were missing
            if kept.root == tree.root():
                self.vouched = kept.size
            else:
                self._misfit = Failure(
                    self.vouched,
                    kept.size,
                    f"Rewritten: {_entries(self.vouched, kept.size)} not what a kept checkpoint has signed.",
                )

    def failures(self, end: int) -> Iterator[Failure]:
        """What did not fit, given the index after the last entry."""
        yield from self._broken
        if self._misfit:
            yield self._misfit
        cut = next((kept.size for kept in self._waiting if kept.size > end), None)
        if cut is not None:
            text = f"Cut: a kept checkpoint counts {cut} entries, and those from {end} on are missing."
            yield Failure(end, cut, text)

    def _signed(self, notes: Iterable[str], verifier: Verifier) -> Iterator[Checkpoint]:
        for note in notes:
            try:
                checkpoint = verifier.check(note)
            except AuditError as error:
                self._broken.append(Failure(None, 0, f"A kept checkpoint vouches for nothing: {error.message}"))
            else:
                if checkpoint.size:
                    yield checkpoint


class StoredCheckpoints:
    """Checkpoints in the database, the head's included. A later one that fits makes up for one that does not."""

    def __init__(self, connection: Connection, verifier: Verifier) -> None:
        self._verifier = verifier
        self._notes = _stored(connection)
        self._waiting = next(self._notes, None)
        self._vouched = 0
        self._misfit: tuple[int, str] | None = None  # the first size without one that fits, and why
        self._damaged: list[Failure] = []

    def meet(self, tree: Frontier) -> None:
        """Compare the checkpoints of the tree's size. Sizes come in rising order."""
        while self._waiting and self._waiting[0] <= tree.size:
            size, note = self._waiting
            self._waiting = next(self._notes, None)
            if size == tree.size:
                self._compare(tree, note)

    def failures(self, end: int, vouched: int) -> Iterator[Failure]:
        """What did not fit, given the index after the last entry and how many entries others vouch for."""
        start, stop = max(self._vouched, vouched), end
        if self._waiting and self._waiting[0] > end:
            stop, note = self._waiting
            yield self._beyond(end, stop, note)
        if self._misfit and self._misfit[0] <= start:
            self._make_up_for(self._misfit[0])
        yield from self._damaged
        if self._misfit:
            stop, reason = self._misfit
            text = f"Rewritten: {_entries(start, stop)} vouched for by no checkpoint ({reason})"
            yield Failure(start, stop, text)
        elif start < end:
            yield Failure(start, stop, f"Unsigned: {_entries(start, end)} under no checkpoint.")

    def _compare(self, tree: Frontier, note: str) -> None:
        reason = self._wrong_with(tree, note)
        if reason is None:
            if self._misfit:
                self._make_up_for(self._misfit[0])
            self._vouched = tree.size
        elif self._misfit is None:
            self._misfit = tree.size, reason

    def _make_up_for(self, size: int) -> None:
        text = f"The stored checkpoint of {size} entries is not what was signed; the entries are vouched for elsewhere."
        self._damaged.append(Failure(None, size, text))
        self._misfit = None

    def _wrong_with(self, tree: Frontier, note: str) -> str | None:
        try:
            checkpoint = self._verifier.check(note)
        except AuditError as error:
            return error.message
        if (checkpoint.size, checkpoint.root) != (tree.size, tree.root()):
            return "A checkpoint is of other entries."
        return None

    def _beyond(self, end: int, size: int, note: str) -> Failure:
        try:
            self._verifier.check(note)
        except AuditError as error:
            return Failure(None, size, f"The stored checkpoint of {size} entries vouches for nothing: {error.message}")
        return Failure(
            end, size, f"Cut: a stored checkpoint counts {size} entries, and those from {end} on are missing."
        )


def _stored(connection: Connection) -> Iterator[tuple[int, str]]:
    """All stored checkpoints in the order of their sizes, then the head's."""
    last = -1
    while True:
        query = select(checkpoints.c.size, checkpoints.c.note).where(checkpoints.c.size > last)
        rows = connection.execute(query.order_by(checkpoints.c.size).limit(PAGE)).all()
        if not rows:
            break
        yield from ((size, note) for size, note in rows)
        last = rows[-1].size
    head = connection.execute(select(log_head.c.size, log_head.c.checkpoint)).one_or_none()
    if head:
        yield head.size, head.checkpoint


def _entries(start: int, stop: int) -> str:
    """Such as "entries 3 to 7 are", for a range without its stop."""
    return f"entry {start} is" if stop == start + 1 else f"entries {start} to {stop - 1} are"
