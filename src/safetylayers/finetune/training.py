"""Fine-tuning on transformers' Trainer, the safety layers' gradient held at zero (arXiv 2408.17003, section 4.1)."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from safetylayers.errors import OutputError, TrainingError, UsageError
from safetylayers.finetune.callbacks import StopAtNaN, TellProgress, last_checkpoint
from safetylayers.finetune.card import write_model_card
from safetylayers.finetune.data import Collator, encode
from safetylayers.finetune.freezing import ProveFrozen, check_unmoved, fingerprint
from safetylayers.finetune.methods import Method, parse_method
from safetylayers.finetune.plan import Plan, check_settings, claim
from safetylayers.models import ChatModel, Scope, freeze_layers
from safetylayers.models.structure import linear_modules
from safetylayers.prompts import ExampleSet
from safetylayers.records import ProgressCallback, Provenance, Record

if TYPE_CHECKING:
    from transformers import Trainer

    from safetylayers.locate import SafetyMap

WARM_UP = 0.05
"""Share of the steps over which the learning rate rises."""


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
    rows: int
    """Examples that were learnt from."""
    truncated: int
    """Rows whose reply lost its end to `max_length`."""
    left_out: int
    """Examples whose request alone fills `max_length`."""
    provenance: Provenance


def finetune(
    model: ChatModel | str | Path,
    data: ExampleSet,
    *,
    output: Path,
    method: str = "sppft",
    map: SafetyMap | None = None,  # noqa: A002 - the word of the whole project
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
        method: sppft, full, lora, sppft-lora, or freeze:A-B as a control.
        map: the model's safety map; the sppft methods need it.
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
        UsageError: the method needs a map, a setting makes no sense, or `output` holds another run.
        WrongModelError: the map is another model's.
        DataError: there is nothing to learn from.
        NonFiniteLossError: the loss became NaN or infinite.
        FrozenTensorError: a tensor that had to stay still has moved.
        OutputError: there is no room.
    """
    chosen = parse_method(method)
    check_settings(learning_rate, epochs, max_steps, batch_size, lora_rank, save_every)
    source = model if isinstance(model, ChatModel) else ChatModel.load(model)
    block = _frozen_block(chosen, map, source)
    plan = Plan(
        method=method, scope=scope, frozen_layers=block, learning_rate=learning_rate, epochs=epochs,
        max_steps=max_steps, batch_size=batch_size, max_length=max_length, lora_rank=lora_rank, seed=seed,
        dtype=str(source.model.dtype).removeprefix("torch."), model_hash=source.weights_hash,
        data_hash=data.content_hash,
    )  # fmt: skip
    tuned = ChatModel(copy.deepcopy(source.model), source.tokenizer, name=source.name)
    tuned.model.config.use_cache = False
    frozen = freeze_layers(tuned.model, *block, scope) if block else []
    proof = ProveFrozen(frozen)
    proof.before = fingerprint(tuned.model, frozen)
    encoded = encode(data, source.tokenizer, max_length)
    claim(output, plan, resume=resume)  # after everything that a user may have got wrong
    if (output / "result.json").exists():
        return FinetuneResult.read(output / "result.json")
    trained: Any = _with_adapters(tuned, block, lora_rank, seed) if chosen.lora else tuned.model
    callbacks: list[Any] = [StopAtNaN(output / "checkpoints")]
    callbacks += [TellProgress(progress, f"fine-tuning, {method}")] if progress else []
    # With adapters, frozen tensors live under other names while training: they are compared after the merge.
    callbacks += [] if chosen.lora else [proof]
    trainer = _trainer(
        trained, encoded.rows, Collator(source.tokenizer.pad_token_id or 0), output / "checkpoints", callbacks,
        learning_rate=learning_rate, num_train_epochs=epochs, max_steps=max_steps or -1,
        per_device_train_batch_size=batch_size, save_steps=save_every, seed=seed,
    )  # fmt: skip
    loss = _run(trainer, output / "checkpoints", resume)
    if chosen.lora:
        tuned = ChatModel(trained.merge_and_unload(), source.tokenizer, name=source.name)
    check_unmoved(tuned.model, proof.before)
    tuned.model.config.use_cache = True
    tuned.save(output)
    result = FinetuneResult(
        method=method, scope=scope, frozen_layers=block, frozen_count=len(frozen), frozen_names=tuple(frozen),
        steps=trainer.state.global_step, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate,
        final_loss=loss, rows=len(encoded.rows), truncated=encoded.truncated, left_out=encoded.left_out,
        provenance=Provenance(
            model=source.name, model_hash=source.weights_hash, data={data.name: data.content_hash}, seed=seed
        ),
    )  # fmt: skip
    write_model_card(output, result)
    result.write(output / "result.json")
    shutil.rmtree(output / "checkpoints", ignore_errors=True)
    return result


def _frozen_block(method: Method, found: SafetyMap | None, model: ChatModel) -> tuple[int, int] | None:
    if not method.protects_map:
        return method.block
    if found is None:
        raise UsageError(
            f"The method {method.name!r} needs the model's safety map.",
            mend=f"Make it: safetylayers locate {model.name} -o MAP, then give --map MAP.",
        )
    found.check(model)
    return found.range


def _with_adapters(model: ChatModel, block: tuple[int, int] | None, rank: int, seed: int) -> Any:
    """Put low-rank adapters beside every linear projection outside the protected layers."""
    from peft import LoraConfig, get_peft_model
    from transformers import set_seed

    set_seed(seed)
    protected = set(range(block[0], block[1] + 1)) if block else set()
    modules = {id(m) for k, layer in enumerate(model.layers) if k not in protected for _, m in linear_modules(layer)}
    targets = [name for name, module in model.model.named_modules() if id(module) in modules]
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets, task_type="CAUSAL_LM")
    return get_peft_model(model.model, config)


def _trainer(
    model: Any, rows: list[Any], collator: Collator, folder: Path, callbacks: list[Any], **settings: Any
) -> Trainer:
    from transformers import PrinterCallback, ProgressCallback, Trainer, TrainingArguments

    arguments = TrainingArguments(
        output_dir=str(folder),
        data_seed=settings["seed"],
        warmup_steps=WARM_UP,
        lr_scheduler_type="linear",
        weight_decay=0.0,
        logging_steps=1,
        save_strategy="steps",
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,
        use_cpu=model.device.type == "cpu",
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        logging_nan_inf_filter=False,
        **settings,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collator, callbacks=callbacks)
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    return trainer


def _run(trainer: Trainer, folder: Path, resume: bool) -> float:
    """Train; return the mean loss of all steps, those before an interruption included."""
    from safetensors import SafetensorError

    last = last_checkpoint(folder) if resume else None
    try:
        trainer.train(resume_from_checkpoint=last)
        losses: list[float] = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        return sum(losses) / len(losses)
    except (OSError, SafetensorError, RuntimeError) as error:
        # torch tells of a full disk by a RuntimeError of its archive writer.
        if isinstance(error, RuntimeError) and not any(w in str(error) for w in ("inline_container", "StreamWriter")):
            raise
        raise OutputError(
            f"{folder}: the run cannot be saved ({getattr(error, 'strerror', None) or error}).",
            mend="Free some room and run the same command again: it goes on from the last checkpoint.",
        ) from error
    except ValueError as error:
        raise TrainingError(f"The run cannot start: {error}", mend="Look at the settings named there.") from error
