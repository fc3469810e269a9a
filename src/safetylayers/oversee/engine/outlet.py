"""The last place before a reply's tokens leave: text that ends the reply is found here, and kept in.

A text that ends a reply may span tokens. Tokens whose text may turn out to be its beginning wait until that is decided,
as do those that end within a character.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from safetylayers.oversee.words import Token


class Outlet:
    """Lets one reply's tokens out, in order."""

    def __init__(self, stops: Sequence[str]) -> None:
        """Keep in what begins with one of `stops`; an empty one is none."""
        self._stops = [stop for stop in stops if stop]
        self._held: list[Token] = []
        self.stopped = False
        """Whether one of the texts came; nothing more leaves then."""

    def add(self, token: Token, *, whole: bool = True) -> list[Token]:
        """Take the next token; return those that may leave.

        Args:
            token: with the text that it adds.
            whole: whether the text ends with a whole character.
        """
        self._held.append(token)
        text = "".join(held.text for held in self._held)
        places = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if places:
            self.stopped = True
            return self._cut(min(places))
        if not whole:
            return []
        return self._release(len(text) - self._undecided(text))

    def close(self, rest: str) -> list[Token]:
        """Return all tokens that waited, at the reply's end; the last of them gets the rest of the text."""
        if not self._held or self.stopped:
            return []
        last = self._held.pop()
        released = self.add(replace(last, text=last.text + rest))
        undecided, self._held = self._held, []
        return released + undecided

    def _undecided(self, text: str) -> int:
        """Return how many of the last characters may be the beginning of a text that ends the reply."""
        return max((_overlap(text, stop) for stop in self._stops), default=0)

    def _release(self, characters: int) -> list[Token]:
        """Let go of the tokens that lie within the first characters."""
        end, count = 0, 0
        for token in self._held:
            end += len(token.text)
            if end > characters:
                break
            count += 1
        released, self._held = self._held[:count], self._held[count:]
        return released

    def _cut(self, place: int) -> list[Token]:
        """Let go of what stands before a place; of the token in which it lies, the part before it."""
        released, left = [], place
        for token in self._held:
            if left <= 0:
                break
            released.append(replace(token, text=token.text[:left]))
            left -= len(token.text)
        self._held = []
        return released


def _overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of a text are the beginning of another, which it does not contain."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
