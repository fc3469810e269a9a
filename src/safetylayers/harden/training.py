"""Adversarial training: from a model to a hardened model in a transformers folder."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.utils.data import default_collate

from safetylayers.finetune.adapters import with_adapters
from safetylayers.finetune.callbacks import StopAtNaN, TellProgress
from safetylayers.finetune.plan import claim
from safetylayers.harden.collapse import check_collapse
from safetylayers.harden.layers import choose_layers
from safetylayers.harden.material import Rows, build_material, default_harmful, default_retain, kept_material
from safetylayers.harden.methods import parse_method
from safetylayers.harden.objective import Objective, make_parts
from safetylayers.harden.plan import PLAN, HardenPlan
from safetylayers.harden.record import HardenResult, write_harden_card
from safetylayers.harden.settings import HardenSettings
from safetylayers.harden.step import Pair, Run
from safetylayers.harden.strength import with_strength
from safetylayers.harden.suffixes import CoordinateGradient, SuffixOptimiser
from safetylayers.models import ChatModel
from safetylayers.prompts import builtin
from safetylayers.records import ProgressCallback, Provenance

if TYPE_CHECKING:
    from safetylayers.locate import SafetyMap


def harden(
    model: ChatModel | str | Path,
    *,
    method: str,
    output: Path,
    map: SafetyMap | None = None,  # noqa: A002 - the word of the whole project
    layers: str = "map",
    harmful: Rows | None = None,
    retain: Rows | None = None,
    lora: bool = True,
    settings: HardenSettings | None = None,
    suffix_optimiser: SuffixOptimiser | None = None,
    save_every: int = 100,
    check: bool = True,
    seed: int = 0,
    resume: bool = True,
    progress: ProgressCallback | None = None,
) -> HardenResult:
    """Harden a copy of a model against attacks, and save it as a transformers folder.

    Args:
        model: loaded, or what `ChatModel.load` takes.
        method: one of `METHODS`, or several joined by "+", whose losses are added up.
        output: new or empty; gets the model, its card, `result.json`, and while training `checkpoints`.
        map: the model's safety map, for parts that act at its layers.
        layers: "map", "fixed" (the papers'), "random" (as many as the map's), or "A-B".
        harmful: requests to refuse, as examples with the compliant replies to avoid, or as prompts, whose compliance
            is in the model's own words; by itself the built-in malicious training split.
        retain: requests as examples with the replies to keep, or as prompts, whose replies are the model's own; by
            itself the built-in normal, borderline and checkable ones.
        lora: train adapters, which are merged at the end, or else all weights.
        settings: every number.
        suffix_optimiser: of `discrete`.
        save_every: steps between checkpoints.
        check: whether refusal has collapsed into one direction, by ablating it before and after.
        seed: of rows, adversaries and new weights.
        resume: go on from the last checkpoint in `output`, and return at once where the run is complete; without it,
            an earlier run's checkpoints there are removed.
        progress: told of every step.

    Raises:
        UsageError: the method or its layers make no sense, a map is lacking, or `output` holds another run.
        WrongModelError: the map is another model's.
        DataError: there is nothing to learn from.
        NonFiniteLossError: the loss became NaN or infinite.
        OutputError: there is no room.
    """
    chosen, numbers = parse_method(method), settings or HardenSettings()
    source = model if isinstance(model, ChatModel) else ChatModel.load(model)
    where = choose_layers(layers, chosen, source, map, seed)
    bad = default_harmful() if harmful is None else harmful
    good = default_retain() if retain is None else retain
    plan = HardenPlan(
        method=method, layers=where, lora=lora, settings=numbers,
        suffix_optimiser=repr(suffix_optimiser or CoordinateGradient()), seed=seed,
        dtype=str(source.model.dtype).removeprefix("torch."), model_hash=source.weights_hash,
        data={data.name: data.content_hash for data in (bad, good)},
    )  # fmt: skip
    claim(output, plan, resume=resume, name=PLAN, what="hardening")  # after everything that a user may have got wrong
    if (output / "result.json").exists():
        return HardenResult.read(output / "result.json")
    material = kept_material(
        output / "checkpoints" / "material.json",
        lambda: build_material(
            source, bad, good, styled=numbers.styled, consistent=numbers.consistent, max_length=numbers.max_length,
            seed=seed, progress=progress,
        ),
    )  # fmt: skip
    models = _pair(source, lora, numbers, seed)
    objective = Objective(Run(models, material, chosen, numbers, where, seed), make_parts(chosen, suffix_optimiser))
    _train(objective, output / "checkpoints", save_every, resume, progress)
    hardened = _finished(models, source, numbers.strength)
    hardened.save(output)
    result = HardenResult(
        method=method, layers_from=layers if where else "none", layers=where, lora=lora, settings=numbers,
        losses=objective.last_losses(), harmful_rows=len(material.harmful), retain_rows=len(material.retain),
        seconds=objective.seconds,
        collapse=check_collapse(source, hardened, builtin("malicious", "test"), progress=progress) if check else None,
        map_hash=map.content_hash if map and where else "",
        provenance=Provenance(model=source.name, model_hash=source.weights_hash, data=plan.data, seed=seed),
    )  # fmt: skip
    write_harden_card(output, result)
    result.write(output / "result.json")
    shutil.rmtree(output / "checkpoints", ignore_errors=True)
    return result


def _pair(source: ChatModel, lora: bool, settings: HardenSettings, seed: int) -> Pair:
    """Return a copy to train beside the original: adapters can be switched off, full weights need a frozen model."""
    student = ChatModel(copy.deepcopy(source.model), source.tokenizer, name=source.name)
    student.model.config.use_cache = False
    if lora:
        return Pair(student, None, with_adapters(student, (), settings.lora_rank, seed))
    return Pair(student, source)


def _train(
    objective: Objective,
    checkpoints: Path,
    save_every: int,
    resume: bool,
    progress: ProgressCallback | None,
) -> None:
    from safetylayers.finetune.trainer import make_trainer, run_trainer

    run, numbers = objective.run, objective.run.settings
    callbacks: list[Any] = [StopAtNaN(checkpoints)]
    callbacks += [TellProgress(progress, f"hardening, {run.method.name}")] if progress else []
    steps = [{"step": number} for number in range(numbers.steps)]  # the objective draws its own rows
    trainer = make_trainer(
        run.models.adapters or run.models.student.model, steps, default_collate, checkpoints, callbacks, objective,
        learning_rate=numbers.learning_rate, max_steps=numbers.steps, per_device_train_batch_size=1,
        save_steps=save_every, seed=run.seed,
    )  # fmt: skip
    run_trainer(trainer, checkpoints, resume)


def _finished(models: Pair, source: ChatModel, strength: float) -> ChatModel:
    """Return the model without anything that training needed."""
    plain = models.adapters.merge_and_unload() if models.adapters else models.student.model
    plain.config.use_cache = source.model.config.use_cache
    trained = ChatModel(plain, source.tokenizer, name=source.name)
    return trained if strength == 1 else with_strength(source, trained, strength)
