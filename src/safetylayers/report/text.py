"""Text that people or models wrote: made visible, shortened, and measured for drawing."""

from __future__ import annotations

import re
import unicodedata

from markupsafe import Markup, escape

_KEPT = frozenset("\n\t\u200c\u200d")
"""Line breaks, and the two joiners that Persian, Indic scripts and emoji need; they cannot reorder text."""

_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})

_CODE = re.compile(r"`([^`\n]+)`")

_SPACES = re.compile(r"[^\S\u00a0]+")
"""White space, but for the space that keeps a number and its unit together."""

_WIDTHS = {
    **dict.fromkeys("iljI|.,:;'! ()[]", 0.39),
    **dict.fromkeys('ftr-/\\"*', 0.45),
    **dict.fromkeys("mwMW@%", 0.98),
}
"""Width of a character in em, after the widest of the usual system fonts, so that an estimate errs on the safe side."""


def visible(text: str) -> str:
    """The text with every control, bidi-control and zero-width character replaced by its code.

    A reply may hold characters that reorder or hide what a reader sees (Boucher and Anderson 2021, "Trojan Source").
    """
    return "".join(f"⟨U+{ord(char):04X}⟩" if _is_hidden(char) else char for char in text)


def _is_hidden(char: str) -> bool:
    return char not in _KEPT and unicodedata.category(char) in _HIDDEN_CATEGORIES


def inline_code(text: str) -> Markup:
    """Escaped text in which `backticked` pieces are set as code."""
    pieces = _CODE.split(visible(text))
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if index % 2 else escape(piece) for index, piece in enumerate(pieces)
    )


_BOLD = 1.13


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """About how wide the text is when set in `size` pixels; rather too wide than too narrow."""
    return size * (_BOLD if bold else 1.0) * sum(map(_char_width, visible(text)))


def _char_width(char: str) -> float:
    if char in _WIDTHS:
        return _WIDTHS[char]
    if unicodedata.east_asian_width(char) in "FW":
        return 1.05
    if unicodedata.combining(char):
        return 0.0
    return 0.62 if char.islower() or char.isdigit() else 0.72


def shorten(text: str, width: float, size: float, *, bold: bool = False) -> str:
    """The text on one line, cut with an ellipsis where it is wider than `width` pixels."""
    line = _SPACES.sub(" ", visible(text)).strip()
    if text_width(line, size, bold=bold) <= width:
        return line
    while line and text_width(line + "…", size, bold=bold) > width:
        line = line[:-1]
    return line.rstrip() + "…"
