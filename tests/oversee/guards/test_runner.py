from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from safetylayers.errors import GuardError
from safetylayers.oversee.guards import Failure, Finding, Passage, Verdict, run_guard

TEXT = "The secret text."
WHOLE = Passage("output", TEXT)
PART = Passage("output", TEXT, start=4, final=False)


@dataclass
class Plugged:
    """A guard that does what a test says."""

    does: Callable[[Passage], Awaitable[object]]
    name: str = "plugged"
    kinds: tuple[str, ...] = ("harm",)

    async def check(self, passage: Passage) -> Verdict:
        return await self.does(passage)  # type: ignore[return-value]


def _run(does: Callable[[Passage], Awaitable[object]], passage: Passage = WHOLE, timeout: float = 5) -> object:
    return asyncio.run(run_guard(Plugged(does), passage, timeout=timeout))


def _says(verdict: object) -> Callable[[Passage], Awaitable[object]]:
    async def does(_passage: Passage) -> object:
        return verdict

    return does


def _raises(error: BaseException) -> Callable[[Passage], Awaitable[object]]:
    async def does(_passage: Passage) -> object:
        raise error

    return does


@pytest.mark.parametrize("passage", [WHOLE, PART])
def test_a_verdict_that_makes_sense_is_handed_on(passage: Passage) -> None:
    verdict = Verdict(len(TEXT), (Finding("harm", 5, 9), Finding("harm")))
    assert _run(_says(verdict), passage) == verdict


@pytest.mark.parametrize(
    ("verdict", "passage", "reason"),
    [
        (None, WHOLE, "it is none"),
        (True, WHOLE, "it is none"),
        (Verdict(len(TEXT) + 1), WHOLE, "beyond the text"),
        (Verdict(3), PART, "backwards"),
        (Verdict(len(TEXT) - 1), WHOLE, "end of a finished text unchecked"),
        (Verdict(len(TEXT), (Finding("email", 0, 1),)), WHOLE, "a kind that the guard does not have"),
        (Verdict(len(TEXT), (Finding("harm", -1, 1),)), WHOLE, "outside the text"),
        (Verdict(len(TEXT), (Finding("harm", 3, 2),)), WHOLE, "outside the text"),
        (Verdict(len(TEXT), (Finding("harm", 0, 99),)), WHOLE, "outside the text"),
    ],
)
def test_a_verdict_that_makes_no_sense_is_a_failure(verdict: object, passage: Passage, reason: str) -> None:
    failure = _run(_says(verdict), passage)
    assert isinstance(failure, Failure)
    assert failure.kind == "error"
    assert reason in failure.reason


@pytest.mark.parametrize("verdict", [Verdict("all"), Verdict(len(TEXT), None), Verdict(len(TEXT), ("harm",))])  # type: ignore[arg-type]
def test_a_verdict_of_wrong_parts_is_a_failure(verdict: Verdict) -> None:
    assert isinstance(_run(_says(verdict)), Failure)


def test_our_own_errors_say_why_and_others_do_not_repeat_the_text() -> None:
    assert _run(_raises(GuardError("No key.", mend="Get one."))) == Failure("plugged", "error", "No key.")
    assert _run(_raises(KeyError(TEXT))) == Failure("plugged", "error", "It raised KeyError.")
    assert _run(_raises(TimeoutError())) == Failure("plugged", "error", "It raised TimeoutError.")
    assert _run(_raises(asyncio.CancelledError())) == Failure("plugged", "error", "It gave up.")


def test_a_slow_guard_is_cut_off_and_told() -> None:
    told = []

    async def slow(_passage: Passage) -> object:
        try:
            await asyncio.sleep(30)
        finally:
            told.append("cancelled")
        return Verdict(len(TEXT))

    begun = time.monotonic()
    assert _run(slow, timeout=0.02) == Failure("plugged", "timeout", "It took longer than 0.02 s.")
    assert time.monotonic() - begun < 2
    assert told == ["cancelled"]


def test_a_guard_that_does_not_stop_is_left_behind() -> None:
    async def stubborn(_passage: Passage) -> object:
        for _ in range(4):
            try:
                await asyncio.sleep(0.2)
            except asyncio.CancelledError:
                continue
        return Verdict(len(TEXT))

    async def timed() -> tuple[object, float]:
        begun = time.monotonic()
        answer = await run_guard(Plugged(stubborn), WHOLE, timeout=0.02)
        return answer, time.monotonic() - begun

    answer, seconds = asyncio.run(timed())
    assert isinstance(answer, Failure)
    assert answer.kind == "timeout"
    assert seconds < 0.4


def test_being_cancelled_is_passed_on() -> None:
    told = asyncio.Event()

    async def slow(_passage: Passage) -> object:
        try:
            await asyncio.sleep(30)
        finally:
            told.set()
        return None

    async def cancel() -> None:
        task = asyncio.create_task(run_guard(Plugged(slow), WHOLE, timeout=60))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert told.is_set()

    asyncio.run(cancel())
