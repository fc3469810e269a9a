"""Group commit: one thread commits together whatever waits, so that a disk's flush is shared by many."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from safetylayers.errors import AuditError, OversightError

logger = logging.getLogger(__name__)

LARGEST_BATCH = 512

Item = TypeVar("Item")
Outcome = int | OversightError


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[Item]):
    item: Item
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[int]


class GroupCommit(Generic[Item]):
    """Takes items from any number of event loops and hands them on in batches, in the order in which they came."""

    def __init__(self, commit: Callable[[Sequence[Item]], Sequence[int]]) -> None:
        """Take what commits a batch and returns each item's index; it is called in a thread of its own."""
        self._commit = commit
        self._queue: SimpleQueue[_Waiting[Item] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    async def append(self, item: Item) -> int:
        """Return the item's index once it is committed.

        Raises:
            AuditError: it is closed, or the batch failed.
            StoreError: the database cannot keep it.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(item, loop, loop.create_future())
        with self._lock:
            if self._closed:
                raise AuditError("The log is closed.", mend="Start the gateway again.")
            self._queue.put(waiting)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="audit-log", daemon=True)
                self._thread.start()
        return await waiting.future

    def close(self) -> None:
        """Commit what waits and take nothing more. May be called again."""
        with self._lock:
            if not self._closed:
                self._queue.put(None)
            self._closed = True
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while batch := self._next():
            try:
                outcomes: Sequence[Outcome] = self._commit([waiting.item for waiting in batch])
            except OversightError as error:
                outcomes = [type(error)(error.message, mend=error.mend) for _ in batch]
            except Exception as error:  # the thread must outlive whatever a batch holds
                logger.exception("a batch of %d entries could not be written", len(batch))
                outcomes = [_unforeseen(error) for _ in batch]
            _tell(batch, outcomes)

    def _next(self) -> list[_Waiting[Item]]:
        """Whatever waits; nothing once it is closed and empty."""
        batch: list[_Waiting[Item]] = []
        waiting = self._queue.get()
        while waiting is not None:
            batch.append(waiting)
            if len(batch) == LARGEST_BATCH:
                return batch
            try:
                waiting = self._queue.get_nowait()
            except Empty:
                return batch
        if batch:
            self._queue.put(None)  # for the next call
        return batch


def _unforeseen(error: Exception) -> AuditError:
    return AuditError(
        f"The log could not be written ({type(error).__name__}).", mend="See the gateway's own log for the cause."
    )


def _tell(batch: Sequence[_Waiting[Item]], outcomes: Sequence[Outcome]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[int], Outcome]]] = defaultdict(list)
    for waiting, outcome in zip(batch, outcomes, strict=True):
        by_loop[waiting.loop].append((waiting.future, outcome))
    for loop, told in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle, told)
        except RuntimeError:  # the loop has ended, and nobody waits
            continue


def _settle(told: Sequence[tuple[asyncio.Future[int], Outcome]]) -> None:
    for future, outcome in told:
        if future.done():  # whoever waited was cancelled
            continue
        if isinstance(outcome, OversightError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
