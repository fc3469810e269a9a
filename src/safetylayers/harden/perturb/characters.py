"""Random changes of a text's characters (arXiv 2310.03684, section 3.2)."""

from __future__ import annotations

import math
import random
import string
from typing import Literal, get_args

Kind = Literal["swap", "insert", "patch"]
KINDS: tuple[str, ...] = get_args(Kind)
ALPHABETS = {"printable": string.printable, "letters": string.ascii_letters}
"""What new characters are drawn from, each as likely as another; "printable" is the paper's."""


def perturbed(text: str, kind: Kind, rate: float, draw: random.Random, alphabet: str = string.printable) -> str:
    """Return the text with a share of its characters changed, rounded up: at least one where the rate is above 0.

    Args:
        text: a prompt as its user typed it.
        kind: "swap" puts drawn characters in the place of drawn ones, "insert" puts one behind each drawn one,
            "patch" swaps as many that stand side by side.
        rate: share of the characters.
        draw: of places and characters.
        alphabet: the characters that can be drawn.
    """
    characters = list(text)
    count = min(len(text), math.ceil(rate * len(text)))
    if kind == "patch":
        first = draw.randint(0, len(text) - count)
        places = list(range(first, first + count))
    else:
        places = draw.sample(range(len(text)), count)
    for place in places:
        drawn = draw.choice(alphabet)
        characters[place] = characters[place] + drawn if kind == "insert" else drawn
    return "".join(characters)
