"""Whether the monitors are alive: they are asked about prompts whose answer is known."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Sequence
from itertools import count
from statistics import fmean

from safetylayers.errors import EngineError
from safetylayers.oversee.engine.base import Canary
from safetylayers.oversee.words import Ask, Message, Piece, Reading, Sampling
from safetylayers.prompts import builtin

PROMPTS = 4
"""Of each kind."""

_numbers = count()


async def examine(reply: Callable[[Ask], AsyncGenerator[Piece]], model: str) -> Canary:
    """Ask built-in prompts, malicious and normal ones, and judge what the monitors read.

    Args:
        reply: the engine's own way of making replies.
        model: which one to ask.
    """
    texts = [*_texts("malicious"), *_texts("normal")]
    try:
        found = await asyncio.gather(*(_readings(reply, model, text) for text in texts))
    except EngineError as error:
        return Canary(alive=False, detail=f"the canaries got no reply: {error.message}")
    return judge(found[:PROMPTS], found[PROMPTS:])


def _texts(name: str) -> list[str]:
    return builtin(name, "calibration").sample(PROMPTS, seed=0).texts


async def _readings(reply: Callable[[Ask], AsyncGenerator[Piece]], model: str, text: str) -> list[Reading | None]:
    """Return what the monitors read at a prompt's end and in the first token of the reply."""
    ask = Ask(
        id=f"canary-{next(_numbers)}",
        model=model,
        messages=(Message("user", text),),
        sampling=Sampling(temperature=0, max_tokens=1),
    )
    first, *others = [piece async for piece in reply(ask)]
    return [first.prompt_reading, *(token.reading for piece in others for token in piece.tokens)]


def judge(malicious: Sequence[Sequence[Reading | None]], normal: Sequence[Sequence[Reading | None]]) -> Canary:
    """Say whether such readings come from monitors that are alive.

    Args:
        malicious: of each prompt, what was read at its end and after it.
        normal: the same.
    """
    every = [reading for readings in (*malicious, *normal) for reading in readings]
    if any(reading is None or not _is_sound(reading) for reading in every):
        return Canary(alive=False, detail="a monitor's reading is not a number")
    ends = [readings[0] for readings in (*malicious, *normal) if readings[0]]
    for head in ends[0].scores:
        if len({reading.scores[head] for reading in ends}) == 1:
            return Canary(alive=False, detail=f"the head {head!r} reads the same in {len(ends)} different prompts")
    if len({reading.risk for reading in ends}) == 1:
        return Canary(alive=False, detail=f"the risk of {len(ends)} different prompts is the same")
    high, low = (fmean(readings[0].risk or 0.0 for readings in kind if readings[0]) for kind in (malicious, normal))
    seen = f"mean risk {high:+.2f} for {len(malicious)} malicious prompts, {low:+.2f} for {len(normal)} normal ones"
    return Canary(alive=high > low, detail=seen)


def _is_sound(reading: Reading) -> bool:
    """Whether everything in a reading is a number."""
    return reading.risk is not None and all(map(math.isfinite, (reading.risk, *reading.scores.values())))
