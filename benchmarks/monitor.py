"""Times the gateway's local engine with monitors inside the model against the same engine without.

    python benchmarks/monitor.py                  tiny with a map's probes, then a random Llama of 30 layers, 576 wide
    python benchmarks/monitor.py GUARDED_FOLDER   a model with trained safety layers, as `safetylayers attach` writes it
    python benchmarks/monitor.py --quick          tiny alone

Two copies of the model are kept open, one of them watched, and take turns, so that a machine that grows slower slows
both. Medians are given, and the median of the ratios of neighbouring turns. All is counted that a reader waits for:
reading the prompt, making the tokens, and handing each over with its reading. Requests are harmless, so the gate is
closed, and no reply ends by itself, so that both make equally many tokens.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from attach import closed_layers
from locate import random_llama
from safetylayers.attach import SafetyLayers, from_map, has_layers
from safetylayers.locate import locate
from safetylayers.models import ChatModel
from safetylayers.oversee.engine.local import LocalEngine
from safetylayers.oversee.words import Ask, Message, Sampling
from safetylayers.prompts import builtin

REPLY = 64
"""Tokens of a reply."""
TURNS, FEWEST, SECONDS = 31, 7, 60
"""Turns of each of the two: so many, or fewer when they have taken so many seconds."""
AIM = 5.0
"""Percent that monitors may cost."""


def endless(model: ChatModel) -> ChatModel:
    """Return the model, whose replies end by their length alone."""
    model.model.generation_config.eos_token_id = model.tokenizer.pad_token_id or 0
    return model


async def seconds(engine: LocalEngine, rows: int) -> float:
    """Return how long so many replies at once take."""

    async def read(number: int, text: str) -> None:
        sampling = Sampling(temperature=0, max_tokens=REPLY)
        ask = Ask(id=str(number), model="m", messages=(Message("user", text),), sampling=sampling)
        tokens = [token async for piece in engine.reply(ask) for token in piece.tokens]
        if len(tokens) != REPLY or any(bool(token.reading) != bool(engine.watched_by) for token in tokens):
            raise RuntimeError("A reply is not what was asked for.")

    start = time.perf_counter()
    await asyncio.gather(*(read(*pair) for pair in enumerate(builtin("normal", "test").take(rows).texts)))
    return time.perf_counter() - start


async def measure(load: Callable[[], ChatModel], layers_of: Callable[[ChatModel], SafetyLayers]) -> None:
    """Print the ratios of one model."""
    watched = load()
    layers = layers_of(watched)
    where = ", ".join(map(str, layers.record.layers))
    bare = LocalEngine(endless(load()), layers=None, steers=False, names=("m",))
    guarded = LocalEngine(endless(watched), layers=layers, steers=layers.record.trained, names=("m",))
    await bare.open()
    await guarded.open()
    for rows in (1, 8):
        await seconds(bare, rows)
        await seconds(guarded, rows)
        times: list[tuple[float, float]] = []
        start = time.perf_counter()
        while len(times) < FEWEST or (len(times) < TURNS and time.perf_counter() < start + SECONDS):
            times.append((await seconds(bare, rows), await seconds(guarded, rows)))
        without, with_them = median(time for time, _ in times), median(time for _, time in times)
        cost = 100 * (median(b / a for a, b in times) - 1)
        print(
            f"{watched.name}, read at layers {where}, batch {rows}: {rows * REPLY / without:,.0f} tokens/s without, "
            f"{rows * REPLY / with_them:,.0f} with monitors: {cost:+.1f} % "
            f"({'within' if cost <= AIM else 'above'} the aim of {AIM:.0f} %)"
        )
    await bare.close()
    await guarded.close()


def main(arguments: list[str]) -> None:
    """Measure what the command line names."""
    folders = [argument for argument in arguments if not argument.startswith("-")]
    if folders:
        if not has_layers(folders[0]):
            raise SystemExit(f"{folders[0]}: holds no safety layers. Make them: safetylayers attach MODEL --map MAP")
        asyncio.run(measure(lambda: ChatModel.load(Path(folders[0])), lambda _: SafetyLayers.load(folders[0])))
        return
    asyncio.run(measure(lambda: ChatModel.load("tiny"), lambda model: from_map(model, locate(model))))
    if "--quick" not in arguments:
        asyncio.run(measure(random_llama, lambda model: closed_layers(model, (9, 10, 11))))


if __name__ == "__main__":
    main(sys.argv[1:])
