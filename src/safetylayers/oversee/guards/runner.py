"""One check by one guard: a verdict that makes sense, in time, or a failure."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

from safetylayers.errors import SafetyLayersError
from safetylayers.oversee.guards.base import Finding, Guard, Passage, Verdict

GRACE_S = 0.1
"""So long a guard that ran out of time may take to clean up."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A guard gave no verdict. What follows from that is the policy's business."""

    guard: str
    kind: Literal["error", "timeout"]
    reason: str
    """One sentence for people and the log, without the text."""


_given_up: set[asyncio.Task[Verdict | Failure]] = set()
"""Checks that went on when they were told to stop; the event loop itself keeps no hold of them."""


async def run_guard(guard: Guard, passage: Passage, *, timeout: float) -> Verdict | Failure:
    """Check a passage.

    Args:
        guard: built in or plugged in; it is not trusted to keep to its contract.
        passage: what to check.
        timeout: seconds. A guard that does not stop then is left behind; one that blocks the event loop blocks it.

    Returns:
        A verdict that makes sense for this passage, or what went wrong. Being cancelled is passed on to the guard.
    """
    task = asyncio.ensure_future(_checked(guard, passage))
    try:
        await asyncio.wait({task}, timeout=timeout)
        if not task.done():
            await _stop(task)
            return Failure(guard.name, "timeout", f"It took longer than {timeout:g} s.")
    except asyncio.CancelledError:
        await _stop(task)
        raise
    if task.cancelled():
        return Failure(guard.name, "error", "It gave up.")
    return task.result()


async def _checked(guard: Guard, passage: Passage) -> Verdict | Failure:
    try:
        verdict = await guard.check(passage)
        problem = _nonsense(guard, passage, verdict)
    except SafetyLayersError as error:
        return Failure(guard.name, "error", error.message)
    except Exception as error:  # a plug-in may raise anything; its message may hold the text
        return Failure(guard.name, "error", f"It raised {type(error).__name__}.")
    return Failure(guard.name, "error", f"Its verdict makes no sense: {problem}.") if problem else verdict


async def _stop(task: asyncio.Task[Verdict | Failure]) -> None:
    task.cancel()
    await asyncio.wait({task}, timeout=GRACE_S)
    if not task.done():
        _given_up.add(task)
        task.add_done_callback(_given_up.discard)


def _nonsense(guard: Guard, passage: Passage, verdict: Verdict) -> str:
    """Return what is wrong with a verdict; nothing where it is sound."""
    if not isinstance(verdict, Verdict):
        return "it is none"
    length = len(passage.text)
    if not passage.start <= verdict.checked <= length:
        return "it goes backwards or beyond the text"
    if passage.final and verdict.checked != length:
        return "it leaves the end of a finished text unchecked"
    return next(filter(None, (_nonsense_in(guard, passage, finding) for finding in verdict.findings)), "")


def _nonsense_in(guard: Guard, passage: Passage, finding: Finding) -> str:
    if finding.kind not in guard.kinds:
        return "it finds a kind that the guard does not have"
    if not 0 <= finding.start <= finding.end <= len(passage.text):
        return "a finding lies outside the text"
    if finding.start < finding.end <= passage.start:
        return "a finding lies in text that it had passed"
    return ""
