"""What a method holds still, what it trains, and what it minimises: three choices that compose, joined by "-".

    freezing    full (nothing is held, the default), sppft (the map's safety layers), freeze:A-B (a control)
    adapter     none (weights are trained, the default), lora, safelora
    objective   none (the rows' likelihood, the default), lisa, constrained, mix, kl

So "sppft-lora-kl" trains adapters outside the safety layers while it stays near the original model's refusals.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from safetylayers.errors import UsageError

Adapter = Literal["", "lora", "safelora"]
Objective = Literal["", "lisa", "constrained", "mix", "kl"]
WORDS = "freezing: full, sppft, freeze:A-B; adapter: lora, safelora; objective: lisa, constrained, mix, kl"
"""Every part of a name, for messages and for --help."""

_PART = r"freeze:\d+-\d+|[a-z]+"


@dataclass(frozen=True)
class Method:
    """A parsed `--method`."""

    protects_map: bool = False
    """Hold the map's safety layers still."""
    block: tuple[int, int] | None = None
    """Hold these layers still, whatever the map says: a control."""
    adapter: Adapter = ""
    """Train low-rank adapters, which are merged into the weights at the end; safelora projects them then."""
    objective: Objective = ""

    @property
    def name(self) -> str:
        """The name in its one spelling."""
        frozen = "sppft" if self.protects_map else f"freeze:{self.block[0]}-{self.block[1]}" if self.block else ""
        return "-".join(part for part in (frozen, self.adapter, self.objective) if part) or "full"

    @property
    def lora(self) -> bool:
        """Whether adapters are trained."""
        return bool(self.adapter)

    @property
    def learns_safety(self) -> bool:
        """Whether it needs rows with refusals."""
        return self.objective in ("lisa", "mix", "kl")


def parse_method(name: str) -> Method:
    """Read a method's name.

    Raises:
        UsageError: there is no such method, or a part of it is named twice.
    """
    parts = re.findall(_PART, name)
    chosen = [_parse_part(part) for part in parts]
    kinds = [kind for kind, _ in chosen]
    if not parts or "-".join(parts) != name or len(set(kinds)) < len(kinds) or "" in kinds:
        raise UsageError(
            f"There is no method {name!r}.",
            mend=f"Join at most one of each kind by '-', such as sppft-lora or sppft-kl. {WORDS.capitalize()} "
            "(A to B inclusive, counted from 0).",
        )
    fields: dict[str, object] = {}
    for _, change in chosen:
        fields |= change
    return Method(**fields)  # type: ignore[arg-type]  # each part's change names fields of Method


def _parse_part(part: str) -> tuple[str, dict[str, object]]:
    """Return a part's kind and what it sets; no kind where there is no such part."""
    if block := re.fullmatch(r"freeze:(\d+)-(\d+)", part):
        first, last = int(block[1]), int(block[2])
        return ("freezing", {"block": (first, last)}) if first <= last else ("", {})
    if part in ("full", "sppft"):
        return "freezing", {"protects_map": part == "sppft"}
    if part in get_args(Adapter):
        return "adapter", {"adapter": part}
    return ("objective", {"objective": part}) if part in get_args(Objective) else ("", {})
