"""The threat model's tables: what attacks reach on a bare model and on the same model with its safety layers.

    safetylayers locate tiny -o tiny-map && safetylayers attach tiny --map tiny-map -o guarded
    python benchmarks/threats.py guarded

For testing one's own model.
"""

from __future__ import annotations

import sys

import torch

from safetylayers.attach import GuardedModel, KnownLayers, SafetyLayers, TokenTrace, attach
from safetylayers.attack import AttackResult, embedding, prefill, templates
from safetylayers.attack.embedding import Budget
from safetylayers.models import ChatModel
from safetylayers.prompts import builtin, render

PREFIXES = (0, 1, 2, 5, 10, 20, 40)
ATTACKED = 40
"""Prompts of the embedding attack."""
BUDGET = Budget(restarts=10, steps=30)


def success(result: AttackResult) -> str:
    """Return the success rate by each judge."""
    return ", ".join(f"{judge} {result.success_rate(judge)}" for judge in result.judges)


def untouched(model: ChatModel, layers: SafetyLayers) -> None:
    """Count normal replies that stay the same, and compare the logits of rows whose gate stays closed."""
    texts = render(builtin("normal", "test").texts, model.tokenizer)
    pairs = zip(model.generate(texts), GuardedModel(model, layers).generate(texts), strict=True)
    same = sum(one == other for one, other in pairs)
    seen: list[TokenTrace] = []
    batch = model.tokenize(texts)
    bare = model.next_token_logits(batch)
    with attach(model, layers, trace=seen.extend):
        guarded = model.next_token_logits(batch)
    closed = sorted(set(range(len(texts))) - {int(str(trace.row)) for trace in seen if trace.open})
    equal = sum(torch.equal(bare[row], guarded[row]) for row in closed)
    print(f"normal replies identical: {same} of {len(texts)}; closed rows bitwise equal: {equal} of {len(closed)}")


def main(folder: str) -> None:
    """Run every attack."""
    model, layers = ChatModel.load(folder), SafetyLayers.load(folder)
    guarded = GuardedModel(model, layers)
    prompts = builtin("malicious", "test")
    untouched(model, layers)
    for tokens in PREFIXES:
        bare, with_them = prefill(model, prompts, tokens), prefill(guarded, prompts, tokens, defended=True)
        print(f"prefill {tokens}: bare {success(bare)}; attached {success(with_them)}")
    bare, with_them = templates(model, prompts), templates(guarded, prompts, defended=True)
    print(f"templates: bare {success(bare)}; attached {success(with_them)}")
    few = prompts.take(ATTACKED)
    on = lambda: attach(model, layers)  # noqa: E731 - a context for each restart
    runs = {
        "bare": embedding(model, few, budget=BUDGET),
        "attached, not known": embedding(model, few, budget=BUDGET, defence=on),
        "attached, known": embedding(model, few, budget=BUDGET, defence=on, watcher=KnownLayers(layers)),
    }
    for name, result in runs.items():
        restarts = result.cost.queries / len(result.cases)
        print(f"embedding, {name}: {success(result)}; {restarts:.1f} restarts, {result.cost.seconds:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1])
