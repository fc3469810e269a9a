"""The trace: what the safety layers saw in each token, and what they did. Nothing else of a hidden state is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from safetylayers.attach.control import Row
from safetylayers.attach.gate import QUIET, Inputs, Rules, State, Steps

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
    """Log-odds above the threshold that is nearest to being passed.

    None before the prompt's end, and where a score is no number: that opens the gate.
    """
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


def traces(before: State, inputs: Inputs, steps: Steps, rules: Rules, orders: int) -> list[TokenTrace]:
    """Return the records of one pass, padding left out."""
    found = []
    scores_BTSK = steps.scores(rules.layers, len(rules.heads))
    for b, row in enumerate(before.rows):
        columns = range(scores_BTSK.shape[1]) if inputs.real is None else np.flatnonzero(inputs.real[b]).tolist()
        for position, t in enumerate(columns, start=row.seen):
            step = steps.taken[b].get(t, QUIET)
            found.append(
                TokenTrace(
                    row=row.name,
                    position=position,
                    kind=KINDS[step.kind],
                    scores={head: tuple(scores_BTSK[b, t, :, k].tolist()) for k, head in enumerate(rules.heads)},
                    risk=step.risk if math.isfinite(step.risk) else None,
                    open=step.open,
                    strength=step.strength,
                    would_open=step.would_open,
                    stopped=step.stopped,
                    orders=orders,
                )
            )
    return found
