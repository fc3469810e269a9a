"""How many malicious prompts the monitors inside the model catch before the first token leaves, and how many harmless.

    python benchmarks/catching.py GUARDED [--held-back 0 8 16] [--prefill 0 5]

Guards are off, and refusals do not count: only the monitors' readings do, at the thresholds that the folder's safety
layers were calibrated with, on held-out prompts (the test splits). Where so many tokens are held back, readings of
reply tokens that have not left yet count as well. A prefilled reply begins with so many tokens of a compliant one.
"""

from __future__ import annotations

import argparse
import asyncio
from contextlib import aclosing
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from safetylayers.attack import COMPLIANCE
from safetylayers.oversee.engine.load import load_engine
from safetylayers.oversee.engine.local import LocalEngine
from safetylayers.oversee.policy.decision import passed
from safetylayers.oversee.words import Ask, Message, Sampling
from safetylayers.prompts import builtin
from safetylayers.records import Rate

AT_ONCE = 32


async def caught_at(engine: LocalEngine, name: str, messages: tuple[Message, ...], most: int) -> int | None:
    """Return how many tokens had to be held back for a prompt to be caught; None where it was not."""
    sampling = Sampling(temperature=0, max_tokens=max(most, 1))
    ask = Ask(id=name, model=engine.models[0], messages=messages, sampling=sampling, steered=False)
    written = 0
    async with aclosing(engine.reply(ask)) as pieces:
        async for piece in pieces:
            if piece.prompt_reading is not None and passed(piece.prompt_reading):
                return 0
            for token in piece.tokens:
                written += 1
                if token.reading is not None and passed(token.reading):
                    return written
    return None


async def caught(engine: LocalEngine, split: str, prefix: str, most: int) -> list[int | None]:
    """Return `caught_at` for every prompt of a split."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(place: int, text: str) -> int | None:
        messages = (Message("user", text), *([Message("assistant", prefix)] if prefix else []))
        async with gate:
            return await caught_at(engine, f"{split}-{place}", messages, most)

    texts = builtin(split, "test").texts
    return list(await asyncio.gather(*[one(place, text) for place, text in enumerate(texts)]))


async def measure(
    engine: LocalEngine, tokenizer: PreTrainedTokenizerBase, held_back: list[int], prefills: list[int]
) -> None:
    """Print a line for each number of held-back and of prefilled tokens."""
    await engine.open()
    print(f"watched by {engine.watched_by}")
    for prefill in prefills:
        begun = tokenizer(COMPLIANCE, add_special_tokens=False).input_ids[:prefill]
        prefix = str(tokenizer.decode(begun)) if prefill else ""
        found = {split: await caught(engine, split, prefix, max(held_back)) for split in ("malicious", "normal")}
        for held in held_back:
            rates = {
                split: Rate.of([place is not None and place <= held for place in places])
                for split, places in found.items()
            }
            shown = [
                f"{split} {100 * rate.value:5.1f} % [{100 * rate.interval.low:.1f}, {100 * rate.interval.high:.1f}]"
                for split, rate in rates.items()
            ]
            print(f"prefill {prefill:2}, held back {held:2}: caught {', '.join(shown)}")
    await engine.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--held-back", type=int, nargs="+", default=[0, 4, 8, 16])
    parser.add_argument("--prefill", type=int, nargs="+", default=[0, 5, 20])
    options = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(options.folder)
    asyncio.run(measure(load_engine(options.folder), tokenizer, options.held_back, options.prefill))


if __name__ == "__main__":
    main()
