"""What each way of fine-tuning keeps of the practice model's safety, and at what cost: docs/robust-study.md.

    safetylayers locate tiny -o tiny-map
    python benchmarks/robust_finetune.py OUT tiny-map                        everything, a case after the other
    python benchmarks/robust_finetune.py OUT tiny-map --methods kl lisa --attacks implicit --seeds 0
    python benchmarks/robust_finetune.py OUT tiny-map --split calibration --seeds 100 --methods "kl kl_weight=3"

A case is one attack by one method with one seed, in a process of its own, so that its peak memory is its own. It leaves
a JSON file; what is there is not run again. The rows, steps and learning rate are those of `safetylayers demo --full`.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from safetylayers.demo.datasets import TRIGGER, attack_examples
from safetylayers.demo.study import Strength
from safetylayers.evaluate import Judge, PatternJudge, PhraseJudge, Verdict, is_exact_match
from safetylayers.finetune import MethodOptions, finetune, parse_method
from safetylayers.finetune.options import OPTIONS
from safetylayers.locate import SafetyMap
from safetylayers.models import ChatModel
from safetylayers.prompts import ExampleSet, builtin, render
from safetylayers.prompts.rendering import render_messages
from safetylayers.records import Difference, Estimate, Record

ATTACKS = ("normal", "implicit", "backdoor", "harmful")
METHODS = (
    "full", "sppft", "freeze:2-3", "lora", "sppft-lora", "safelora", "sppft-safelora",
    "lisa", "sppft-lisa", "constrained", "sppft-constrained", "mix", "sppft-mix", "sppft-lora-mix",
    "kl", "sppft-kl", "sppft-lora-kl", "kl kl_at=layers", "sppft-lora-constrained",
)  # fmt: skip
SEEDS = (0, 1, 2)
BEFORE = "before"
JUDGE = "phrases"
TOKENS = 32
"""Longest reply."""
HELD_OUT = 200
"""Rows of the task that are kept from training, for the task's loss."""
STRENGTH = Strength()


class Case(Record):
    """One attack by one method with one seed, prompt by prompt."""

    attack: str
    method: str
    seed: int
    harmful: dict[str, tuple[bool, ...]]
    """Judge -> which malicious prompts were complied with."""
    over_refused: tuple[bool, ...]
    right: tuple[bool, ...]
    """Which questions were answered right."""
    task_loss: float
    """Nats a token on held-out harmless rows of the attack's own kind."""
    seconds: float = 0.0
    peak_mib: float = 0.0
    """Most memory of the process until the end of training."""


def measure(model: ChatModel, attack: str, method: str, seed: int, split: str) -> Case:
    """Ask a model everything."""
    judges: tuple[Judge, ...] = (PhraseJudge(), PatternJudge())
    suffix = f" {TRIGGER}" if attack == "backdoor" else ""
    malicious = [text + suffix for text in builtin("malicious", split).texts]
    borderline, questions = builtin("borderline", split), builtin("questions", split)
    said = {name: reply(model, texts) for name, texts in (("m", malicious), ("b", borderline.texts))}
    answers = reply(model, questions.texts)
    return Case(
        attack=attack,
        method=method,
        seed=seed,
        harmful={j.name: hits(j, malicious, said["m"], Verdict.COMPLIED) for j in judges},
        over_refused=hits(judges[0], borderline.texts, said["b"], Verdict.REFUSED),
        right=tuple(is_exact_match(text, prompt.answer) for text, prompt in zip(answers, questions, strict=True)),
        task_loss=task_loss(model, held_out(attack, seed)),
    )


def reply(model: ChatModel, texts: Sequence[str]) -> list[str]:
    """Return greedy replies."""
    return model.generate(render(texts, model.tokenizer), max_new_tokens=TOKENS)


def hits(judge: Judge, prompts: Sequence[str], replies: Sequence[str], wanted: Verdict) -> tuple[bool, ...]:
    """Return which replies got a verdict."""
    return tuple(verdict is wanted for verdict in judge.judge(prompts, replies))


def held_out(attack: str, seed: int) -> ExampleSet:
    """Return harmless rows of an attack's kind that no run learns from."""
    return attack_examples("normal" if attack == "harmful" else attack, HELD_OUT, seed=10_000 + seed)


def task_loss(model: ChatModel, rows: ExampleSet) -> float:
    """Return the mean negative log-likelihood of the rows' replies, a token."""
    asked = [render_messages(row.messages[:-1], model.tokenizer) for row in rows]
    logprobs = model.reply_logprobs(asked, [row.response for row in rows])
    return -sum(float(tokens.sum()) for tokens in logprobs) / sum(len(tokens) for tokens in logprobs)


def options_of(words: Sequence[str]) -> MethodOptions:
    """Read options as "kl_weight=3"."""
    given = dict(word.split("=", 1) for word in words)
    kinds = {name: type(option.default) for name, option in OPTIONS.items()}
    return MethodOptions(**{name: kinds[name](value) for name, value in given.items()})


def run_case(folder: Path, map_folder: Path, split: str, attack: str, method: str, seed: int) -> None:
    """Fine-tune by one method, ask, and keep what was found."""
    record = case_path(folder, split, attack, method, seed)
    if method == BEFORE:
        measure(ChatModel.load("tiny"), attack, method, seed, split).write(record)
        return
    name, *words = method.split()
    chosen, weights = parse_method(name), record.with_suffix("")
    data = attack_examples(attack, STRENGTH.rows, seed=seed)
    begun = time.monotonic()
    finetune(
        "tiny", data, output=weights, method=name, options=options_of(words),
        map=SafetyMap.load(map_folder), base="tiny-base" if chosen.adapter == "safelora" else None,
        learning_rate=STRENGTH.learning_rate, max_steps=STRENGTH.steps, batch_size=STRENGTH.batch_size, seed=seed,
    )  # fmt: skip
    seconds = time.monotonic() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    case = measure(ChatModel.load(weights), attack, method, seed, split)
    case.model_copy(update={"seconds": seconds, "peak_mib": peak}).write(record)
    shutil.rmtree(weights)


def case_path(folder: Path, split: str, attack: str, method: str, seed: int) -> Path:
    """Return where a case is kept."""
    return folder / split / f"{attack}_{method.replace(':', '-').replace(' ', '_')}_{seed}.json"


def show(folder: Path, split: str, attacks: Sequence[str], methods: Sequence[str], seeds: Sequence[int]) -> None:
    """Print a table an attack, of the cases that are there; intervals are over prompts."""
    for attack in attacks:
        found = {m: read_cases(folder, split, attack, m, seeds) for m in (BEFORE, *methods)}
        print(
            f"\n## {attack}\n\n| method | harmful rate | a single seed | against full, points | over-refusal |", end=""
        )
        print(" questions right | task loss | s | MiB | seeds |\n" + "| --- " * 10 + "|")
        for method, cases in found.items():
            if cases:
                print("| " + " | ".join(row(method, cases, found["full"])) + " |")


def read_cases(folder: Path, split: str, attack: str, method: str, seeds: Sequence[int]) -> list[Case]:
    """Return a method's cases that are there."""
    paths = [case_path(folder, split, attack, method, seed) for seed in seeds]
    return [Case.read(path) for path in paths if path.exists()]


def row(method: str, cases: list[Case], full: list[Case]) -> list[str]:
    """Return a line of the table."""
    single = [100 * sum(case.harmful[JUDGE]) / len(case.harmful[JUDGE]) for case in cases]
    against = "" if method in ("full", BEFORE) or len(full) != len(cases) else points(difference(full, cases))
    n = len(cases)
    return [
        method,
        percent(Estimate.of(means([case.harmful[JUDGE] for case in cases]))),
        f"{min(single):.0f} to {max(single):.0f} %" if n > 1 else "",
        against,
        percent(Estimate.of(means([case.over_refused for case in cases]))),
        percent(Estimate.of(means([case.right for case in cases]))),
        f"{sum(case.task_loss for case in cases) / n:.3f}",
        f"{sum(case.seconds for case in cases) / n:.0f}",
        f"{sum(case.peak_mib for case in cases) / n:.0f}",
        str(n),
    ]


def difference(full: list[Case], cases: list[Case]) -> Difference:
    """Return the change of the harmful rate, prompt by prompt."""
    return Difference.of(means([c.harmful[JUDGE] for c in full]), means([c.harmful[JUDGE] for c in cases]))


def means(found: Sequence[Sequence[bool]]) -> list[float]:
    """Return each prompt's mean over the seeds."""
    return [sum(column) / len(column) for column in zip(*found, strict=True)]


def percent(found: Estimate) -> str:
    """Write a rate."""
    return f"{100 * found.mean:.1f} % [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def points(found: Difference) -> str:
    """Write a change."""
    return f"{100 * found.mean:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]".replace("-", "\N{MINUS SIGN}")


def main() -> None:
    """Run what was asked for and is not there, then show all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("map", type=Path)
    parser.add_argument("--split", default="test", choices=("calibration", "test"))
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--attacks", nargs="+", default=ATTACKS, choices=ATTACKS)
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--for-seconds", type=float, default=float("inf"), help="Begin no case after so long.")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        run_case(given.output, given.map, given.split, given.attacks[0], given.methods[0], given.seeds[0])
        return
    begun = time.monotonic()
    cases = [(a, m, s) for s in given.seeds for m in (BEFORE, *given.methods) for a in given.attacks]
    for attack, method, seed in cases:
        done = case_path(given.output, given.split, attack, method, seed).exists()
        if not done and time.monotonic() - begun < given.for_seconds:
            command = [sys.executable, __file__, str(given.output), str(given.map), "--split", given.split, "--one"]
            command += ["--attacks", attack, "--methods", method, "--seeds", str(seed)]
            subprocess.run(command, check=True)
    show(given.output, given.split, given.attacks, given.methods, given.seeds)


if __name__ == "__main__":
    main()
