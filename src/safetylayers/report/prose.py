"""Parts of words: paragraphs, lists, verdicts, key figures, facts, commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from safetylayers.report.checks import require

CalloutKind = Literal["good", "warning", "note"]


@dataclass(frozen=True)
class Paragraph:
    """Running text. A blank line begins a new paragraph; `backticks` set code."""

    text: str

    @property
    def blocks(self) -> list[str]:
        """The paragraphs."""
        return [block.strip() for block in self.text.split("\n\n") if block.strip()]


@dataclass(frozen=True)
class BulletList:
    """Short statements, one under the other."""

    items: Sequence[str]


@dataclass(frozen=True)
class Callout:
    """What a reader must not miss."""

    title: str
    text: str = ""
    kind: CalloutKind = "note"

    def __post_init__(self) -> None:
        require(self.kind in get_args(CalloutKind), f"A callout is good, a warning or a note, not {self.kind!r}.")


@dataclass(frozen=True)
class KeyFigure:
    """A number that sums a result up, with what it was before where it changed."""

    label: str
    value: str
    before: str = ""
    note: str = ""


@dataclass(frozen=True)
class KeyFigures:
    """Key figures, side by side."""

    figures: Sequence[KeyFigure]


@dataclass(frozen=True)
class Facts:
    """Names and what they stand for."""

    rows: Mapping[str, str]


@dataclass(frozen=True)
class Code:
    """Commands or other text to be copied as it stands."""

    text: str
    caption: str = ""
