"""The threat model's tables: what attacks reach on a bare model and on the same model with its safety layers.

    safetylayers locate tiny -o tiny-map && safetylayers attach tiny --map tiny-map -o guarded
    python benchmarks/threats.py guarded

For testing one's own model.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import torch

from safetylayers.attach import GuardedModel, KnownLayers, SafetyLayers, TokenTrace, attach
from safetylayers.attack import AttackResult, Embedding, Prefill, Templates, run_attack
from safetylayers.models import ChatModel
from safetylayers.prompts import builtin, render
from safetylayers.targets import ModelTarget

PREFIXES = (0, 1, 2, 5, 10, 20, 40)
ATTACKED = 40
"""Prompts of the embedding attack."""


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
    targets = {"bare": ModelTarget(model), "attached": ModelTarget(GuardedModel(model, layers))}
    prompts = builtin("malicious", "test")
    untouched(model, layers)
    for attack in (*map(Prefill, PREFIXES), Templates()):
        found = [f"{name} {success(run_attack(attack, target, prompts))}" for name, target in targets.items()]
        print(f"{attack.name} {attack.settings()}: {'; '.join(found)}")
    few, plain = prompts.take(ATTACKED), Embedding(restarts=10, steps=30)
    knowing = replace(plain, watcher=KnownLayers(layers))
    runs = {
        "bare": run_attack(plain, targets["bare"], few),
        "attached, not known": run_attack(plain, targets["attached"], few),
        "attached, known": run_attack(knowing, targets["attached"], few),
    }
    for name, result in runs.items():
        restarts = result.cost.queries / len(result.cases)
        print(f"embedding, {name}: {success(result)}; {restarts:.1f} restarts, {result.cost.seconds:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1])
