"""Text as detectors read it: look-alikes of plain characters made plain, what cannot be seen left out.

Each character is folded by itself, to one character or to none, so that the normal form of a text that grows only
grows, and every place in it has one place in the text. It is NFKC (Unicode Standard Annex 15) where that gives one
character; digits of all scripts become 0 to 9, dashes "-", and spaces " ". Left out are format characters (zero-width
ones, soft hyphens, marks of direction), combining marks and fillers.

Not folded are letters of other scripts that look like Latin ones (Unicode Technical Standard 39), and characters that
stand for several, such as a circled 21 or a ligature.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

CONTEXT = 32
"""So many normal characters before the text to check are kept for detectors to look back on."""

_DROPPED = frozenset(("Cf", "Mn", "Me"))
_FILLERS = frozenset("\u115f\u1160\u3164\uffa0\u2800")
_MINUS = "\u2212"


@dataclass(frozen=True, slots=True)
class Normal:
    """Normal text, with where each of its characters comes from."""

    text: str
    origins: Sequence[int]
    """Place of each character in the original text."""
    length: int
    """Of the original text."""
    start: int = 0
    """Where in the normal text the part to check begins; what lies before is context."""

    def origin(self, place: int) -> int:
        """Return the original place of a normal one; that of the end is the end."""
        return self.origins[place] if place < len(self.origins) else self.length

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return the original places of a part that is not empty, without what was left out behind it."""
        return self.origins[start], self.origins[end - 1] + 1


def normal(text: str, start: int = 0) -> Normal:
    """Fold the text from `start` on, and `CONTEXT` normal characters before it."""
    if text.isascii():
        first = max(0, start - CONTEXT)
        return Normal(text[first:], range(first, len(text)), len(text), start - first)
    first, before = start, 0
    while first > 0 and before < CONTEXT:
        first -= 1
        before += len(_plain(text[first]))
    kept = [(place, plain) for place in range(first, len(text)) if (plain := _plain(text[place]))]
    return Normal("".join(plain for _, plain in kept), [place for place, _ in kept], len(text), before)


@lru_cache(maxsize=8192)
def _plain(character: str) -> str:
    """Return the plain character that this one stands for; nothing where it is not seen."""
    if character.isascii():
        return character
    category = unicodedata.category(character)
    if category in _DROPPED or character in _FILLERS:
        return ""
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if category == "Pd" or character == _MINUS:
        return "-"
    if category == "Zs":
        return " "
    folded = unicodedata.normalize("NFKC", character)
    return folded if len(folded) == 1 else character
