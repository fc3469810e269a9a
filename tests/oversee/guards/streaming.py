"""A reply that comes in pieces, read by a guard as the gateway lets it be read."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hypothesis import strategies as st

from safetylayers.oversee.guards import Finding, Guard, Ledger, Passage, Verdict, run_guard

CUTS = st.lists(st.floats(0, 1), max_size=12)
"""Where a reply is cut, as shares of its length."""


async def streamed(guard: Guard, text: str, cuts: Sequence[float]) -> list[Finding]:
    """All findings of a reply that is cut; no text of a finding may be declared checked before it is reported."""
    found: list[Finding] = []
    ledger = Ledger([guard.name])
    for end in sorted(int(cut * len(text)) for cut in cuts):
        found += await _read(guard, ledger, text[:end], final=False)
    found += await _read(guard, ledger, text, final=True)
    ledger.finish(len(text))
    return found


async def _read(guard: Guard, ledger: Ledger, text: str, *, final: bool) -> Sequence[Finding]:
    start = ledger.cleared
    verdict = await run_guard(guard, Passage("output", text, start, final), timeout=20)
    assert isinstance(verdict, Verdict), verdict
    assert all(finding.start >= start for finding in verdict.findings)
    assert all(finding.end <= verdict.checked for finding in verdict.findings)
    ledger.see(len(text))
    ledger.record(guard.name, verdict.checked)
    ledger.release(ledger.cleared)
    return verdict.findings


async def whole(guard: Guard, text: str) -> list[Finding]:
    """All findings of a reply that comes at once."""
    verdict = await guard.check(Passage("output", text))
    assert verdict.checked == len(text)
    return list(verdict.findings)


def held(guard: Guard, text: str) -> str:
    """What a guard holds back of a reply that is not finished."""
    return text[asyncio.run(guard.check(Passage("output", text, final=False))).checked :]


def found_in(guard: Guard, text: str) -> list[tuple[str, str]]:
    """Kinds and texts of what a guard finds in a finished reply."""
    return [(finding.kind, text[finding.start : finding.end]) for finding in asyncio.run(whole(guard, text))]


def assert_cuts_change_nothing(guard: Guard, text: str, cuts: Sequence[float]) -> None:
    """The cuts decide when something is found, and never what."""

    async def both() -> None:
        assert await streamed(guard, text, cuts) == await whole(guard, text)

    asyncio.run(both())
