"""Fine-tuning on transformers' Trainer, the safety layers' gradient held at zero (arXiv 2408.17003, section 4.1)."""

from __future__ import annotations

import copy
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from safetylayers.finetune.adapters import project_updates, with_adapters
from safetylayers.finetune.callbacks import StopAtNaN, TellProgress
from safetylayers.finetune.card import write_model_card
from safetylayers.finetune.data import Collator, Encoded, Row, encode
from safetylayers.finetune.freezing import ProveFrozen, check_unmoved, fingerprint
from safetylayers.finetune.methods import Method, parse_method
from safetylayers.finetune.needs import Needs
from safetylayers.finetune.objectives import SafetyBatches, make_objective
from safetylayers.finetune.options import MethodOptions
from safetylayers.finetune.plan import Plan, check_settings, claim
from safetylayers.finetune.trainer import make_trainer, run_trainer
from safetylayers.models import ChatModel, Scope, freeze_layers
from safetylayers.prompts import ExampleSet
from safetylayers.records import ProgressCallback, Provenance, Record

if TYPE_CHECKING:
    from safetylayers.locate import SafetyMap

_run, _with_adapters = run_trainer, with_adapters  # the names that the room above knows them by


class FinetuneResult(Record):
    """What was trained, how, and what was proved to have stayed."""

    method: str
    scope: str
    frozen_layers: tuple[int, int] | None
    """First and last layer held still, inclusive."""
    frozen_count: int
    """Tensors proved to be bitwise what they were."""
    frozen_names: tuple[str, ...]
    steps: int
    epochs: float
    batch_size: int
    learning_rate: float
    final_loss: float = Field(allow_inf_nan=False)
    """Mean of what was minimised."""
    rows: int
    """Examples that were learnt from."""
    truncated: int
    """Rows whose reply lost its end to `max_length`."""
    left_out: int
    """Examples whose request alone fills `max_length`."""
    options: dict[str, float | int | str] = Field(default_factory=dict)
    """What only this method takes."""
    safety_rows: int = 0
    """Distinct rows with refusals."""
    projected: tuple[str, ...] = ()
    """safelora: matrices whose update was projected, as layer and name."""
    provenance: Provenance


def finetune(
    model: ChatModel | str | Path,
    data: ExampleSet,
    *,
    output: Path,
    method: str = "sppft",
    map: SafetyMap | None = None,  # noqa: A002 - the word of the whole project
    base: ChatModel | str | Path | None = None,
    safety: ExampleSet | None = None,
    options: MethodOptions | None = None,
    scope: Scope = "projections",
    learning_rate: float = 1e-4,
    epochs: float = 3,
    max_steps: int | None = None,
    batch_size: int = 4,
    max_length: int = 512,
    lora_rank: int = 16,
    save_every: int = 100,
    seed: int = 0,
    resume: bool = True,
    progress: ProgressCallback | None = None,
) -> FinetuneResult:
    """Fine-tune a copy of a model and save it as a transformers folder.

    Args:
        model: loaded, or what `ChatModel.load` takes.
        data: requests with the replies to learn; the loss is on the replies alone.
        output: new or empty; gets the model, its card, `result.json`, and while training `checkpoints`.
        method: freezing, adapter and objective, joined by "-": see `finetune.methods`.
        map: the model's safety map; sppft needs it, and kl where it compares hidden states.
        base: the model before alignment; safelora needs it.
        safety: requests with the refusals to keep, for lisa, mix and kl; by themselves the built-in malicious training
            split with the model's own refusals.
        options: what only some methods take.
        scope: hold attention and MLP projections only, as the official code does, or whole layers with their norms.
        learning_rate: the highest; it rises over the first steps and then falls to zero.
        epochs: passes over the data.
        max_steps: instead of epochs.
        batch_size: rows a step.
        max_length: tokens a row; what exceeds them is cut off.
        lora_rank: of the adapters.
        save_every: steps between checkpoints.
        seed: of the order of the data and of new weights.
        resume: go on from the last checkpoint in `output`, and return at once where the run is complete; without it,
            an earlier run's checkpoints there are removed.
        progress: told of every step.

    Raises:
        UsageError: the method lacks a map or a base model, a setting makes no sense or is not this method's, or
            `output` holds another run.
        WrongModelError: the map is another model's.
        DataError: there is nothing to learn from, or the model has no refusals to keep.
        NonFiniteLossError: the loss became NaN or infinite.
        FrozenTensorError: a tensor that had to stay still has moved.
        OutputError: there is no room.
    """
    chosen = parse_method(method)
    numbers = (options or MethodOptions()).resolve(chosen)
    check_settings(learning_rate, epochs, max_steps, batch_size, lora_rank, save_every)
    source = model if isinstance(model, ChatModel) else ChatModel.load(model)
    needs = Needs.of(chosen, numbers, source, map, base, safety, progress)
    plan = Plan(
        method=chosen.name, scope=scope, frozen_layers=needs.block, learning_rate=learning_rate, epochs=epochs,
        max_steps=max_steps, batch_size=batch_size, max_length=max_length, lora_rank=lora_rank, seed=seed,
        dtype=str(source.model.dtype).removeprefix("torch."), model_hash=source.weights_hash,
        data_hash=data.content_hash, options=numbers,
        safety_hash=needs.safety.content_hash if needs.safety else "",
        base_hash=needs.base.weights_hash if needs.base else "",
    )  # fmt: skip
    tuned = ChatModel(copy.deepcopy(source.model), source.tokenizer, name=source.name)
    tuned.model.config.use_cache = False
    frozen = freeze_layers(tuned.model, *needs.block, scope) if needs.block else []
    proof = ProveFrozen(frozen)
    proof.before = fingerprint(tuned.model, frozen)
    encoded = encode(data, source.tokenizer, max_length)
    kept = encode(needs.safety, source.tokenizer, max_length) if needs.safety else None
    claim(output, plan, resume=resume)  # after everything that a user may have got wrong
    if (output / "result.json").exists():
        return FinetuneResult.read(output / "result.json")
    run = _Run(chosen, plan, source, needs, encoded, kept, output / "checkpoints", save_every, progress)
    tuned, steps, loss = run.train(tuned, proof, resume=resume)
    below = float(numbers.get("project_below", 0.0))
    projected = project_updates(tuned, source, needs.base, below) if needs.base else ()
    check_unmoved(tuned.model, proof.before)
    tuned.model.config.use_cache = True
    tuned.save(output)
    named = [each for each in (data, needs.safety) if each]
    result = FinetuneResult(
        method=chosen.name, scope=scope, frozen_layers=needs.block, frozen_count=len(frozen),
        frozen_names=tuple(frozen), steps=steps, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate,
        final_loss=loss, rows=len(encoded.rows), truncated=encoded.truncated, left_out=encoded.left_out,
        options=numbers, safety_rows=len(kept.rows) if kept else 0, projected=projected,
        provenance=Provenance(
            model=source.name, model_hash=source.weights_hash, data={each.name: each.content_hash for each in named},
            seed=seed,
        ),
    )  # fmt: skip
    write_model_card(output, result)
    result.write(output / "result.json")
    shutil.rmtree(output / "checkpoints", ignore_errors=True)
    return result


@dataclass(frozen=True)
class _Run:
    """Everything that the training itself depends on."""

    method: Method
    plan: Plan
    source: ChatModel
    needs: Needs
    user: Encoded
    kept: Encoded | None
    """Safety rows."""
    folder: Path
    """Of the checkpoints."""
    save_every: int
    progress: ProgressCallback | None

    def train(self, tuned: ChatModel, proof: ProveFrozen, *, resume: bool) -> tuple[ChatModel, int, float]:
        """Train a copy of the source; return it without adapters, the steps and the mean loss."""
        plan = self.plan
        adapted = with_adapters(tuned, self.needs.held, plan.lora_rank, plan.seed) if self.method.lora else None
        collator = Collator(self.source.tokenizer.pad_token_id or 0)
        safety = None
        if self.kept:
            safety = SafetyBatches(self.kept.rows, collator, plan.batch_size, plan.seed, tuned.device)
        objective = make_objective(self.method, plan.options, self.source, tuned, safety, self.needs.compared)
        trained = tuned.model if adapted is None else adapted
        trainer = make_trainer(
            trained, self.rows(), collator, self.folder, self.callbacks(proof), objective,
            learning_rate=plan.learning_rate, num_train_epochs=plan.epochs, max_steps=plan.max_steps or -1,
            per_device_train_batch_size=plan.batch_size, save_steps=self.save_every, seed=plan.seed,
        )  # fmt: skip
        loss = run_trainer(trainer, self.folder, resume)
        if adapted is not None:
            tuned = ChatModel(adapted.merge_and_unload(), self.source.tokenizer, name=self.source.name)
        return tuned, trainer.state.global_step, loss

    def callbacks(self, proof: ProveFrozen) -> list[Any]:
        """Return what watches the training."""
        watching: list[Any] = [StopAtNaN(self.folder)]
        watching += [TellProgress(self.progress, f"fine-tuning, {self.method.name}")] if self.progress else []
        # With adapters, frozen tensors live under other names while training: they are compared after the merge.
        return watching + ([] if self.method.lora else [proof])

    def rows(self) -> list[Row]:
        """Return the user's rows; for mix, with so many drawn safety rows that they are the share asked for."""
        if not (self.kept and self.method.objective == "mix"):
            return self.user.rows
        return mixed(self.user.rows, self.kept.rows, float(self.plan.options["safety_share"]), self.plan.seed)


def mixed(rows: list[Row], safety: list[Row], share: float, seed: int) -> list[Row]:
    """Return rows and so many drawn safety rows that they are `share` of all."""
    rng = random.Random(f"mixed rows {seed}")  # noqa: S311 - not a secret
    return rows + rng.choices(safety, k=max(1, round(share / (1 - share) * len(rows))))
