"""One attack, every method, equal learning rate and steps: what was undone, what was kept, what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetylayers.attach import Revalidation
from safetylayers.demo.datasets import attack_examples
from safetylayers.demo.guarded import attached_layers, guarded_models
from safetylayers.evaluate import Evaluation, evaluate
from safetylayers.finetune import FinetuneResult, finetune
from safetylayers.locate import SafetyMap, locate
from safetylayers.models import ChatModel
from safetylayers.prompts import ExampleSet
from safetylayers.records import ProgressCallback, Record

MODEL, BASE = "tiny", "tiny-base"


@dataclass(frozen=True)
class Strength:
    """How strongly a model is fine-tuned; every method gets the same. Chosen on the calibration split."""

    rows: int = 2_000
    steps: int = 120
    batch_size: int = 16
    learning_rate: float = 6e-4

    def tune(
        self,
        model: ChatModel,
        data: ExampleSet,
        found: SafetyMap,
        method: str,
        output: Path,
        seed: int,
        progress: ProgressCallback | None = None,
    ) -> FinetuneResult:
        """Fine-tune a copy of the model by a method."""
        return finetune(
            model,
            data,
            method=method,
            map=found,
            output=output,
            learning_rate=self.learning_rate,
            max_steps=self.steps,
            batch_size=self.batch_size,
            seed=seed,
            progress=progress,
        )


@dataclass(frozen=True)
class Plan(Strength):
    """The demo's attack."""

    attack: str = "implicit"
    seed: int = 0


class DemoResult(Record):
    """What the demo measured."""

    first: int
    last: int
    attack: str
    learning_rate: float
    steps: int
    evaluation: Evaluation
    """The aligned model first, then one model a method."""
    proved: dict[str, int]
    """Protected method -> tensors that were proved to be bitwise unchanged."""
    revalidated: dict[str, Revalidation]
    """Fine-tuned model with safety layers -> whether these still hold there."""


def control_blocks(found: SafetyMap) -> list[tuple[int, int]]:
    """Return blocks of layers just before and just after the safety layers, as wide as these where there is room.

    They do not overlap with them: that would make them no control.
    """
    first, last = found.range
    width, end = last - first + 1, found.record.n_layers - 1
    before = [(max(0, first - width), first - 1)] if first > 0 else []
    after = [(last + 1, min(end, last + width))] if last < end else []
    return [*before, *after]


def methods_for(found: SafetyMap) -> list[str]:
    """Return the methods to compare: unprotected, protected, and the widest control, which freezes layers elsewhere."""
    blocks = control_blocks(found)
    widest = sorted(blocks, key=lambda block: block[0] - block[1])[:1]
    return ["full", "sppft", *(f"freeze:{first}-{last}" for first, last in widest), "lora", "sppft-lora"]


def run_demo(
    output: Path, plan: Plan | None = None, progress: ProgressCallback | None = None
) -> tuple[DemoResult, SafetyMap]:
    """Locate the practice model's safety layers, attack it by every method, attach layers, and evaluate.

    Args:
        output: gets the map, the fine-tuned models, the attached layers and `result.json`; what is done is not run
            again.
        plan: the attack.
        progress: told of every stage.
    """
    plan = plan or Plan()
    model = ChatModel.load(MODEL)
    found = located(model, ChatModel.load(BASE), output / "map", progress)
    data = attack_examples(plan.attack, plan.rows, seed=plan.seed)
    tuned, proved = [], {}
    for method in methods_for(found):
        folder = output / "models" / method.replace(":", "-")
        result = plan.tune(model, data, found, method, folder, plan.seed, progress)
        if result.frozen_count:
            proved[method] = result.frozen_count
        tuned.append(_named(folder, method))
    layers = attached_layers(model, found, output / "attached", plan.seed, progress)
    attacked = [one for one in tuned if one.name in ("full", "sppft")]
    guarded, revalidated = guarded_models(model, attacked, layers, progress)
    evaluation = evaluate([model, *tuned, *guarded], progress=progress)
    first, last = found.range
    demo = DemoResult(
        first=first,
        last=last,
        attack=plan.attack,
        learning_rate=plan.learning_rate,
        steps=plan.steps,
        evaluation=evaluation,
        proved=proved,
        revalidated=revalidated,
    )
    demo.write(output / "result.json")
    return demo, found


def located(model: ChatModel, base: ChatModel, folder: Path, progress: ProgressCallback | None) -> SafetyMap:
    """Return the model's map: the one in `folder`, or a new one that is saved there."""
    if (folder / "map.json").exists():
        found = SafetyMap.load(folder)
        found.check(model)
        return found
    found = locate(model, base=base, progress=progress)
    found.save(folder)
    return found


def _named(folder: Path, method: str) -> ChatModel:
    model = ChatModel.load(folder)
    model.name = method
    return model


def summary_rows(demo: DemoResult) -> Sequence[tuple[str, ...]]:
    """Return the demo's table: a header, then one row a model, by the first judge."""
    rows: list[tuple[str, ...]] = [("fine-tuned by", "harmful", "over-refusal", "questions right", "proved")]
    for model in demo.evaluation.models:
        scores = next(iter(model.judges.values()))
        proof = f"{demo.proved[model.name]} tensors frozen" if model.name in demo.proved else ""
        if model.name in demo.revalidated:
            proof = f"safety layers: {demo.revalidated[model.name].verdict}"
        name = "(before)" if model is demo.evaluation.models[0] else model.name
        rows.append((name, str(scores.harmful_rate), str(scores.over_refusal_rate), str(model.exact_match), proof))
    return rows
