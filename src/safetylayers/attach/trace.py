"""The trace: what the safety layers saw in each token, and what they did. Nothing else of a hidden state is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from safetylayers.attach.control import Row
from safetylayers.attach.gate import Inputs, State, Steps

Kind = Literal["prompt", "prompt end", "reply"]
KINDS: tuple[Kind, ...] = ("prompt", "prompt end", "reply")


@dataclass(frozen=True, slots=True)
class TokenTrace:
    """One token of one row."""

    row: Row
    position: int
    """0-based among the row's tokens, padding left out."""
    kind: Kind
    scores: Mapping[str, tuple[float, ...]]
    """Head -> its score at each attached layer, first to last, before calibration."""
    risk: float | None
    """Log-odds above the threshold that is nearest to being passed; None before the prompt's end."""
    open: bool
    """Whether the gate changed this token."""
    strength: float
    """By how much; 0 where the gate is closed."""
    would_open: bool
    """Whether it would be open if it were not told to observe only."""
    stopped: bool
    """Whether the next token is made the end of the text."""
    orders: int
    """Number of the last order in force when this token was read."""

    def as_json(self) -> dict[str, Any]:
        """Return the record as what JSON can hold."""
        return asdict(self)


TraceCallback = Callable[[Sequence[TokenTrace]], None]
"""Told of each forward pass's tokens, row by row."""


def traces(before: State, inputs: Inputs, steps: Steps, heads: Sequence[str], orders: int) -> list[TokenTrace]:
    """Return the records of one pass, padding left out."""
    found = []
    for row, name in enumerate(before.names):
        position = int(before.seen[row])
        for t in np.flatnonzero(inputs.real[row]).tolist():
            risk = float(steps.risk[row, t])
            found.append(
                TokenTrace(
                    row=name,
                    position=position,
                    kind=KINDS[steps.kinds[row, t]],
                    scores={head: tuple(steps.scores[row, t, :, k].tolist()) for k, head in enumerate(heads)},
                    risk=risk if math.isfinite(risk) else None,
                    open=bool(steps.open[row, t]),
                    strength=float(steps.strength[row, t]),
                    would_open=bool(steps.would_open[row, t]),
                    stopped=bool(steps.stopped[row, t]),
                    orders=orders,
                )
            )
            position += 1
    return found
