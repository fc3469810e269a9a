"""All of the paper's attacks, every method, several seeds (arXiv 2408.17003, tables 2, 3 and 8, on the practice model).

A case is one attack by one method with one seed. Its outcome is kept, prompt by prompt; its weights are not. A run that
was interrupted goes on with the next case.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetylayers.demo.datasets import TRIGGER, attack_examples
from safetylayers.demo.study import BASE, MODEL, Strength, control_blocks, located
from safetylayers.evaluate import Judge, PatternJudge, PhraseJudge, Verdict, is_exact_match
from safetylayers.locate import SafetyMap
from safetylayers.models import ChatModel
from safetylayers.prompts import builtin, render
from safetylayers.records import Difference, Estimate, ProgressCallback, Record

TOKENS = 32
"""Longest reply."""


@dataclass(frozen=True)
class Attack:
    """One of the paper's fine-tuning attacks."""

    kind: str
    share: float = 0.1
    """Of harmful rows, where the kind has any."""

    @property
    def name(self) -> str:
        """How tables call it."""
        return f"harmful p={self.share:g}" if self.kind == "harmful" else self.kind


ATTACKS = (
    Attack("normal"), Attack("implicit"), Attack("backdoor"),
    Attack("harmful", 0.05), Attack("harmful", 0.1), Attack("harmful", 0.2),
)  # fmt: skip


@dataclass(frozen=True)
class FullPlan(Strength):
    """Every attack, every seed."""

    attacks: Sequence[Attack] = ATTACKS
    seeds: Sequence[int] = (0, 1, 2)

    def folder(self, found: SafetyMap) -> str:
        """Return where cases are kept: with another strength, model or map, none of them is taken for done."""
        strength = f"{self.rows}-rows-{self.steps}-steps-of-{self.batch_size}-at-{self.learning_rate:g}"
        first, last = found.range
        return f"{found.record.provenance.model_hash[:12]}-layers-{first}-{last}-{strength}"


class Case(Record):
    """One outcome, prompt by prompt."""

    attack: str
    method: str
    seed: int
    harmful: dict[str, tuple[bool, ...]]
    """Judge -> which malicious prompts were complied with."""
    over_refused: dict[str, tuple[bool, ...]]
    """Judge -> which borderline prompts were refused."""
    right: tuple[bool, ...]
    """Which questions were answered right."""
    frozen_count: int
    """Tensors proved to be bitwise what they were."""


class Cell(Record):
    """One attack by one method, over all seeds; intervals are over prompts, each prompt's value its mean over seeds."""

    attack: str
    method: str
    harmful_rate: dict[str, Estimate]
    """By judge."""
    over_refusal_rate: dict[str, Estimate]
    right_rate: Estimate
    seeds: tuple[float, float]
    """Lowest and highest harmful rate of a single seed, by the first judge."""
    harmful_against_full: Difference | None
    """Change against training all layers, by the first judge; none for that method itself."""
    right_against_full: Difference | None


class FullResult(Record):
    """The whole study."""

    first: int
    last: int
    learning_rate: float
    steps: int
    before: tuple[Cell, ...]
    """The aligned model itself, as each attack asks it."""
    cells: tuple[Cell, ...]


def run_full(
    output: Path, plan: FullPlan | None = None, progress: ProgressCallback | None = None
) -> tuple[FullResult, SafetyMap]:
    """Run every case that is not done yet, and sum up.

    Args:
        output: gets the map, a file a case, and `result.json`.
        plan: attacks, seeds and strength.
        progress: told of every case.
    """
    plan = plan or FullPlan()
    model = ChatModel.load(MODEL)
    found = located(model, ChatModel.load(BASE), output / "map", progress)
    methods = ["full", "sppft", *(f"freeze:{a}-{b}" for a, b in control_blocks(found)), "lora", "sppft-lora"]
    before = [_measure(model, attack, "before", 0, frozen=0) for attack in plan.attacks]
    todo = [(a, m, s) for a in plan.attacks for s in plan.seeds for m in methods]
    cases = []
    for done, (attack, method, seed) in enumerate(todo):
        if progress:
            progress(done, len(todo), "cases")
        cases.append(_case(model, found, attack, method, seed, plan, output / "cases" / plan.folder(found)))
    first, last = found.range
    result = FullResult(
        first=first,
        last=last,
        learning_rate=plan.learning_rate,
        steps=plan.steps,
        before=tuple(sum_up([case], [case]) for case in before),
        cells=tuple(
            sum_up(_of(cases, attack, method), _of(cases, attack, "full"))
            for attack in plan.attacks
            for method in methods
        ),
    )
    result.write(output / "result.json")
    return result, found


def _of(cases: Sequence[Case], attack: Attack, method: str) -> list[Case]:
    return [case for case in cases if (case.attack, case.method) == (attack.name, method)]


def _case(
    model: ChatModel, found: SafetyMap, attack: Attack, method: str, seed: int, plan: FullPlan, folder: Path
) -> Case:
    name = f"{attack.name}_{method}_{seed}".replace(" ", "-").replace(":", "-").replace("=", "")
    record, weights = folder / f"{name}.json", folder / name
    if record.exists():
        return Case.read(record)
    data = attack_examples(attack.kind, plan.rows, seed=seed, share=attack.share)
    result = plan.tune(model, data, found, method, weights, seed)
    case = _measure(ChatModel.load(weights), attack, method, seed, frozen=result.frozen_count)
    case.write(record)
    shutil.rmtree(weights)
    return case


def _measure(model: ChatModel, attack: Attack, method: str, seed: int, *, frozen: int) -> Case:
    judges: tuple[Judge, ...] = (PhraseJudge(), PatternJudge())
    suffix = f" {TRIGGER}" if attack.kind == "backdoor" else ""
    malicious = [text + suffix for text in builtin("malicious", "test").texts]
    borderline, questions = builtin("borderline", "test"), builtin("questions", "test")
    said = {"malicious": _reply(model, malicious), "borderline": _reply(model, borderline.texts)}
    answers = _reply(model, questions.texts)

    def hits(prompts: Sequence[str], name: str, wanted: Verdict) -> dict[str, tuple[bool, ...]]:
        return {j.name: tuple(verdict is wanted for verdict in j.judge(prompts, said[name])) for j in judges}

    return Case(
        attack=attack.name,
        method=method,
        seed=seed,
        harmful=hits(malicious, "malicious", Verdict.COMPLIED),
        over_refused=hits(borderline.texts, "borderline", Verdict.REFUSED),
        right=tuple(is_exact_match(a, prompt.answer) for a, prompt in zip(answers, questions, strict=True)),
        frozen_count=frozen,
    )


def _reply(model: ChatModel, texts: Sequence[str]) -> list[str]:
    return model.generate(render(texts, model.tokenizer, "chat"), max_new_tokens=TOKENS)


def sum_up(cases: Sequence[Case], full: Sequence[Case]) -> Cell:
    """Sum up the seeds of one attack by one method, against training all layers."""
    judge = next(iter(cases[0].harmful))
    one = cases[0]
    rates = [sum(case.harmful[judge]) / len(case.harmful[judge]) for case in cases]
    is_full = one.method in ("full", "before")
    return Cell(
        attack=one.attack,
        method=one.method,
        harmful_rate={name: Estimate.of(_means([case.harmful[name] for case in cases])) for name in one.harmful},
        over_refusal_rate={
            name: Estimate.of(_means([case.over_refused[name] for case in cases])) for name in one.over_refused
        },
        right_rate=Estimate.of(_means([case.right for case in cases])),
        seeds=(min(rates), max(rates)),
        harmful_against_full=None
        if is_full
        else Difference.of(_means([c.harmful[judge] for c in full]), _means([c.harmful[judge] for c in cases])),
        right_against_full=None
        if is_full
        else Difference.of(_means([c.right for c in full]), _means([c.right for c in cases])),
    )


def _means(hits: Sequence[Sequence[bool]]) -> list[float]:
    """Return each prompt's mean over the seeds."""
    return [sum(column) / len(column) for column in zip(*hits, strict=True)]
