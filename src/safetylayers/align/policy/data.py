"""Rows for each method, as TRL's trainers take them: conversations."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from safetylayers.align.policy.plan import Method
from safetylayers.align.scoring import Scorer, scored
from safetylayers.errors import DataError, UsageError
from safetylayers.prompts import ExampleSet, PairSet, PromptSet
from safetylayers.prompts.pairs import Pair, Turn

PolicyData = ExampleSet | PairSet | PromptSet


@dataclass(frozen=True)
class Rows:
    """What is learned from."""

    rows: list[dict[str, Any]]
    left_out: int = 0


def rows_for(
    method: Method, data: PolicyData, scorer: Scorer | None, penalty: float, fits: Callable[[Sequence[Turn]], bool]
) -> Rows:
    """Return the rows of a method.

    sft learns the replies of examples, or those that were chosen; dpo learns from pairs, chosen anew by the reward
    where there is one, which leaves out those of which it is less sure than `penalty` deviations; grpo and rloo need
    requests alone.

    Args:
        method: that learns.
        data: what was given.
        scorer: that chooses anew between pairs, where there is one.
        penalty: deviations.
        fits: whether a conversation with its reply is short enough to be learned from.

    Raises:
        UsageError: the data are not what the method learns from.
        DataError: a conversation asks nothing, or nothing is left.
        NonFiniteLossError: a score is not a number.
    """
    asked = conversations(data)
    if empty := [number for number, turns in enumerate(asked, start=1) if not turns]:
        raise DataError(f"{data.name}, row {empty[0]}: nothing is asked.", mend="Give each reply what it replies to.")
    if method == "sft":
        shown = [(t, r) for t, r in _demonstrations(data) if fits([*t, _said(r)])]
        found = Rows([_demonstration(*each) for each in shown], len(data) - len(shown))
    elif method == "dpo":
        if not isinstance(data, PairSet):
            raise UsageError("dpo learns from pairs.", mend="Give rows with prompt, chosen and rejected.")
        short = [p for p in data if all(fits([*p.messages, _said(r)]) for r in (p.chosen, p.rejected))]
        pairs = chosen_anew(short, scorer, penalty) if scorer and short else short
        found = Rows([_preference(pair) for pair in pairs], len(data) - len(pairs))
    else:
        found = Rows([{"prompt": turns} for turns in distinct(asked).values()])
    if not found.rows:
        raise DataError(
            f"{data.name}: nothing is left to learn from.",
            mend="Give more rows or shorter ones, or with a reward a smaller --penalty.",
        )
    return found


def distinct(asked: Sequence[Sequence[Turn]]) -> dict[str, list[Turn]]:
    """Return each different conversation once, by what it is known by."""
    return {repr(list(turns)): list(turns) for turns in asked}


def in_order(rows: Sequence[dict[str, Any]], count: int, seed: int) -> list[dict[str, Any]]:
    """Return so many rows: all of them in an order that is drawn, then in another, and so on.

    Trainers take them as they come. Their own orders of later passes are not those of a run that is resumed.
    """
    rng = random.Random(seed)  # noqa: S311 - not a secret
    found: list[dict[str, Any]] = []
    while len(found) < count:
        found += rng.sample(rows, len(rows))
    return found[:count]


def conversations(data: PolicyData) -> list[tuple[Turn, ...]]:
    """Return what is asked in each row."""
    if isinstance(data, PromptSet):
        return [({"role": "user", "content": prompt.text},) for prompt in data]
    if isinstance(data, PairSet):
        return [pair.messages for pair in data]
    return [example.messages[:-1] for example in data]


def chosen_anew(pairs: Sequence[Pair], scorer: Scorer, penalty: float) -> list[Pair]:
    """Let a reward choose between each pair's replies, and leave out pairs between which it is not sure.

    Sure is a gap of more than `penalty` times both scores' deviations together, which that of their gap never exceeds.
    """
    turns = [pair.messages for pair in pairs]
    found = scored(scorer, turns * 2, [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs])
    gap_N = np.subtract(*np.split(found.mean, 2))
    unsure_N = np.add(*np.split(found.deviation, 2))
    kept = []
    for pair, gap, unsure in zip(pairs, gap_N, unsure_N, strict=True):
        if abs(gap) <= penalty * unsure:
            continue
        first, second = (pair.chosen, pair.rejected) if gap > 0 else (pair.rejected, pair.chosen)
        kept.append(Pair(pair.messages, first, second, pair.value, pair.category))
    return kept


def _demonstrations(data: PolicyData) -> list[tuple[tuple[Turn, ...], str]]:
    if isinstance(data, PromptSet):
        raise UsageError(
            "sft learns replies, and these are requests alone.", mend="Give rows with prompt and response."
        )
    if isinstance(data, PairSet):
        return [(pair.messages, pair.chosen) for pair in data]
    return [(example.messages[:-1], example.response) for example in data]


def _demonstration(turns: Sequence[Turn], reply: str) -> dict[str, Any]:
    return {"prompt": list(turns), "completion": [_said(reply)]}


def _preference(pair: Pair) -> dict[str, Any]:
    return {"prompt": list(pair.messages), "chosen": [_said(pair.chosen)], "rejected": [_said(pair.rejected)]}


def _said(reply: str) -> Turn:
    return {"role": "assistant", "content": reply}
