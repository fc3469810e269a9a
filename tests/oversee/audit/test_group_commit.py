"""Whatever waits is committed together, and everybody learns what became of his own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from safetylayers.errors import AuditError, StoreError
from safetylayers.oversee.audit.group_commit import LARGEST_BATCH, GroupCommit


class Disk:
    """Keeps batches, once it is told to go on."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun, self.go = threading.Event(), threading.Event()
        self.before: Callable[[], object] = lambda: None

    def commit(self, batch: Sequence[int]) -> Sequence[int]:
        """Commit a batch; each item is its own index."""
        self.begun.set()
        assert self.go.wait(5)
        self.before()
        self.batches.append(list(batch))
        return batch


@pytest.fixture
def disk() -> Disk:
    """A disk that waits."""
    return Disk()


@pytest.fixture
def group(disk: Disk) -> Iterator[GroupCommit[int]]:
    """Group commit to that disk."""
    made = GroupCommit(disk.commit)
    yield made
    disk.go.set()
    made.close()


async def start(group: GroupCommit[int], items: Sequence[int]) -> list[asyncio.Task[int]]:
    """Append each item in a task of its own, and let them all reach the queue."""
    tasks = [asyncio.create_task(group.append(item)) for item in items]
    await asyncio.sleep(0)
    return tasks


async def held_up(group: GroupCommit[int], disk: Disk) -> asyncio.Task[int]:
    """Have a first batch of one that the disk does not let go."""
    (first,) = await start(group, [0])
    await asyncio.to_thread(disk.begun.wait, 5)
    return first


def test_what_waits_goes_together(group: GroupCommit[int], disk: Disk) -> None:
    async def run() -> list[int]:
        first = await held_up(group, disk)
        rest = await start(group, range(1, 50))
        disk.go.set()
        return await asyncio.gather(first, *rest)

    assert asyncio.run(run()) == list(range(50))
    assert disk.batches == [[0], list(range(1, 50))]


def test_batches_have_a_bound(group: GroupCommit[int], disk: Disk) -> None:
    async def run() -> None:
        first = await held_up(group, disk)
        rest = await start(group, range(1, LARGEST_BATCH + 11))
        disk.go.set()
        await asyncio.gather(first, *rest)

    asyncio.run(run())
    assert [len(batch) for batch in disk.batches] == [1, LARGEST_BATCH, 10]


@pytest.mark.parametrize(
    ("raised", "told"),
    [(StoreError("full", mend="free some"), StoreError), (AuditError("bad"), AuditError), (KeyError("x"), AuditError)],
)
def test_a_failed_batch_fails_all_of_it_and_nothing_else(
    group: GroupCommit[int], disk: Disk, raised: Exception, told: type[Exception]
) -> None:
    def fail() -> None:
        disk.before = lambda: None
        raise raised

    async def run() -> list[int | BaseException]:
        first = await held_up(group, disk)
        rest = await start(group, [1, 2])
        disk.before = fail
        disk.go.set()
        return await asyncio.gather(first, *rest, return_exceptions=True)

    outcomes = asyncio.run(run())
    assert [type(outcome) for outcome in outcomes] == [told, int, int]
    assert disk.batches == [[1, 2]]


def test_errors_are_not_shared_between_tasks(group: GroupCommit[int], disk: Disk) -> None:
    def fail() -> None:
        raise StoreError("full", mend="free some")

    async def run() -> list[int | BaseException]:
        disk.before = fail
        first = await held_up(group, disk)
        rest = await start(group, [1, 2])
        disk.go.set()
        return await asyncio.gather(first, *rest, return_exceptions=True)

    outcomes = asyncio.run(run())
    assert len({id(outcome) for outcome in outcomes}) == 3
    assert {str(outcome) for outcome in outcomes} == {"full\nfree some"}


def test_whoever_stops_waiting_does_not_unwrite_it(group: GroupCommit[int], disk: Disk) -> None:
    async def run() -> int:
        first = await held_up(group, disk)
        gone, stays = await start(group, [1, 2])
        gone.cancel()
        await asyncio.sleep(0)
        disk.go.set()
        await first
        return await stays

    assert asyncio.run(run()) == 2
    assert disk.batches == [[0], [1, 2]]


def test_closing_commits_what_waits(group: GroupCommit[int], disk: Disk) -> None:
    async def run() -> list[int]:
        first = await held_up(group, disk)
        rest = await start(group, [1, 2])
        closing = asyncio.create_task(asyncio.to_thread(group.close))
        await asyncio.sleep(0.01)
        with pytest.raises(AuditError, match="closed"):
            await group.append(3)
        disk.go.set()
        await closing
        return await asyncio.gather(first, *rest)

    assert asyncio.run(run()) == [0, 1, 2]


def test_an_event_loop_that_ended_does_not_stop_the_others(group: GroupCommit[int], disk: Disk) -> None:
    async def leave() -> None:
        (task,) = await start(group, [0])
        await asyncio.to_thread(disk.begun.wait, 5)
        task.cancel()

    asyncio.run(leave())
    disk.go.set()
    assert asyncio.run(group.append(1)) == 1


def test_closing_what_was_never_used_is_nothing() -> None:
    GroupCommit(list).close()
