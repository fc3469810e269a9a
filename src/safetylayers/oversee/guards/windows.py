"""Windows: how guards that ask a model read long texts.

A reply is read each time so many new characters came, always at the same places, however it comes in pieces; what is
not read yet is held back. With the new text goes some of what was read before, as context. A request is read in larger
parts. What is spread over more than one window with its context is seen only in parts.
"""

from __future__ import annotations

from typing import NamedTuple

from pydantic import Field

from safetylayers.oversee.guards.base import Passage
from safetylayers.oversee.guards.settings import GuardSettings


class WindowSettings(GuardSettings):
    """How a guard that asks a model reads."""

    every: int = Field(default=400, ge=1)
    """Characters of a reply after which it is read again. So many are held back at most."""
    context: int = Field(default=1200, ge=0)
    """Characters read before that are shown once more."""
    request: int = Field(default=8000, ge=1)
    """New characters of a request that are read at once."""


class Window(NamedTuple):
    """A part of a passage to read at once."""

    start: int
    """Where its new text begins."""
    end: int
    text: str
    """Context and new text."""


def windows(passage: Passage, settings: WindowSettings) -> list[Window]:
    """Return what can be read now: whole windows, and the rest of a final passage."""
    size = settings.request if passage.stage == "input" else settings.every
    start, length = passage.start, len(passage.text)
    ends = [*range(start - start % size + size, length + 1, size)]
    if passage.final and start < length and (not ends or ends[-1] < length):
        ends.append(length)
    found = []
    for end in ends:
        found.append(Window(start, end, passage.text[max(0, start - settings.context) : end]))
        start = end
    return found
