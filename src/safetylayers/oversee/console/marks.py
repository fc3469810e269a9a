"""What the monitors saw, drawn over a reply's text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from safetylayers.oversee.words import Reading, Token

MOST_TOKENS = 300
"""Drawn one by one; what came before is shown as plain text."""
STEPS = (-6.0, -4.0, -2.0, 0.0, 2.0)
"""Log-odds above the threshold at which the next stronger colour begins. At 0 the threshold is passed."""
PASSED = STEPS.index(0.0) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A piece of a reply that looks the same throughout."""

    text: str
    level: int | None
    """0 to 5, from `PASSED` on above the threshold; None where nothing watched."""
    label: str
    """The numbers, for people."""
    released: bool
    steered: bool
    """Whether the gate changed this token."""


def level_of(reading: Reading) -> int:
    """Return how strong a reading's colour is. No number counts as passed, as it does for the gate."""
    if reading.risk is None:
        return len(STEPS)
    return sum(reading.risk >= step for step in STEPS)


def label_of(reading: Reading) -> str:
    """Return a reading's numbers."""
    risk = "no number" if reading.risk is None else f"risk {reading.risk:+.2f}"
    heads = ", ".join(f"{head} {score:+.2f}" for head, score in reading.scores.items())
    gate = f"; gate open at {reading.strength:.2f}" if reading.open else ""
    return f"{risk}{f' ({heads})' if heads else ''}{gate}"


def drawn(text: str, tokens: Sequence[Token], released: int) -> list[Stretch]:
    """Return a reply in stretches.

    Args:
        text: all of it so far.
        tokens: those it is made of; none from engines that do not show them.
        released: how many characters have left.
    """
    first = max(0, len(tokens) - MOST_TOKENS)
    place = sum(len(token.text) for token in tokens[:first])
    found = list(_cut(text, 0, place, released, None))
    for token in tokens[first:]:
        end = place + len(token.text)
        found += _cut(text, place, end, released, token.reading)
        place = end
    return [*found, *_cut(text, place, len(text), released, None)]


def _cut(text: str, start: int, end: int, released: int, reading: Reading | None) -> Iterator[Stretch]:
    """Yield a piece, in two where only its beginning has left."""
    middle = min(max(released, start), end)
    for begins, ends, gone in ((start, middle, True), (middle, end, False)):
        if text[begins:ends]:
            yield Stretch(
                text=text[begins:ends],
                level=None if reading is None else level_of(reading),
                label="" if reading is None else label_of(reading),
                released=gone,
                steered=reading is not None and reading.open,
            )
