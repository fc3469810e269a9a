"""Parts behind a line of text, shown when a reader asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safetylayers.report.checks import require

if TYPE_CHECKING:
    from safetylayers.report.page import Part


@dataclass(frozen=True)
class Fold:
    """Parts that a click or the Enter key on the summary shows and hides. A closed one is printed closed."""

    summary: str
    """What is inside, in a few words; `backticks` set code."""
    parts: Sequence[Part]
    opened: bool = False
    """Whether it is open when the page is."""

    def __post_init__(self) -> None:
        require(bool(self.summary.strip()), "A fold needs a summary: it is all that is seen of a closed one.")
        require(bool(self.parts), f"There is nothing in the fold {self.summary!r}.")
