"""What a method trains and what it holds still."""

from __future__ import annotations

import re
from dataclasses import dataclass

from safetylayers.errors import UsageError

CHOICES = ("sppft", "full", "lora", "sppft-lora", "freeze:A-B")


@dataclass(frozen=True)
class Method:
    """A parsed `--method`."""

    name: str
    lora: bool = False
    """Train low-rank adapters, which are merged into the weights at the end."""
    protects_map: bool = False
    """Hold the map's safety layers still."""
    block: tuple[int, int] | None = None
    """Hold these layers still, whatever the map says: a control."""


def parse_method(name: str) -> Method:
    """Read a method's name.

    Raises:
        UsageError: there is no such method.
    """
    if block := re.fullmatch(r"freeze:(\d+)-(\d+)", name):
        first, last = int(block[1]), int(block[2])
        if first <= last:
            return Method(name, block=(first, last))
    if name in CHOICES[:-1]:
        return Method(name, lora=name.endswith("lora"), protects_map=name.startswith("sppft"))
    raise UsageError(
        f"There is no method {name!r}.", mend=f"Use one of: {', '.join(CHOICES)} (A to B inclusive, counted from 0)."
    )
