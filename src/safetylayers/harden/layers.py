"""Where methods act: at the map's layers, or at rivals', to see whether the map is worth anything.

A layer stands for its output. -1 stands for the embeddings' output, where a published method acts there too.
"""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

from safetylayers.errors import UsageError
from safetylayers.harden.methods import LAYERED, Method

if TYPE_CHECKING:
    from safetylayers.locate import SafetyMap
    from safetylayers.models import ChatModel

CHOICES = ("map", "fixed", "random", "A-B")
PUBLISHED: dict[str, tuple[int, ...]] = {"latent": (-1, 8, 16, 24, 30), "circuit-breaker": (10, 20)}
"""Layers that the papers chose for Llama models of `DEPTH` layers: 2407.15549, section 4; 2406.04313, section 4."""
DEPTH = 32


def choose_layers(
    which: str, method: Method, model: ChatModel, found: SafetyMap | None, seed: int
) -> dict[str, tuple[int, ...]]:
    """Return the layers of each part of a method that acts at layers.

    Args:
        which: "map"; "fixed", the papers' layers scaled to this model's depth; "random", as many as the map's; or
            "A-B", inclusive.
        method: whose parts.
        model: whose layers.
        found: the model's safety map, for "map" and "random".
        seed: of the random layers.

    Raises:
        UsageError: there is no map, there are no such layers, or no such choice.
        WrongModelError: the map is another model's.
        NoSafetyLayersError: the map says that there are none.
    """
    parts = [part for part in method.parts if part in LAYERED]
    if not parts:
        return {}
    if which == "fixed":
        return {part: _scaled(PUBLISHED[part], model.n_layers) for part in parts}
    if block := re.fullmatch(r"(\d+)-(\d+)", which):
        first, last = int(block[1]), int(block[2])
        if first > last or last >= model.n_layers:
            raise UsageError(
                f"There are no layers {which}.", mend=f"{model.name} has layers 0 to {model.n_layers - 1}."
            )
        return dict.fromkeys(parts, tuple(range(first, last + 1)))
    if which not in ("map", "random"):
        raise UsageError(f"There is no choice of layers {which!r}.", mend=f"Use one of: {', '.join(CHOICES)}.")
    if found is None:
        raise UsageError(
            f"The method {method.name!r} needs the model's safety map.",
            mend=f"Make it: safetylayers locate {model.name} -o MAP, then give --map MAP; or give --layers fixed.",
        )
    found.check(model)
    first, last = found.range
    mapped = tuple(range(first, last + 1))
    if which == "map":
        return dict.fromkeys(parts, mapped)
    drawn = random.Random(seed).sample(range(model.n_layers), len(mapped))  # noqa: S311 - not a secret
    return dict.fromkeys(parts, tuple(sorted(drawn)))


def _scaled(published: tuple[int, ...], depth: int) -> tuple[int, ...]:
    """Return published layers at the same share of another depth; those that fall together are one."""
    return tuple(sorted({k if k < 0 else min(depth - 1, round(k * depth / DEPTH)) for k in published}))
