"""The correction as a LoRA adapter that is always on, for engines that know nothing else.

An adapter has no gate: it has to know by itself when to refuse. So it is trained to refuse harmful requests behind any
prefix, and to leave the model's own replies to harmless ones as they are (KL to the bare model). What that loses:
outputs are no longer bitwise those of the model; there are no thresholds to move, no trace, no orders, no hard stop.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from safetylayers.attach.correction_training import CorrectionTraining, Material, begun_rows, material_of
from safetylayers.attach.rows import LabelledRow
from safetylayers.errors import DataError, NonFiniteLossError, OutputError
from safetylayers.models import ChatModel
from safetylayers.models.structure import linear_modules
from safetylayers.prompts import render
from safetylayers.records import ProgressCallback

if TYPE_CHECKING:
    from safetylayers.attach.layers import LayersRecord

LAYERS = 3
"""Decoder layers that get adapters: the last attached one and those above it."""


def export_adapter(
    model: ChatModel,
    record: LayersRecord,
    rows: Sequence[LabelledRow],
    folder: Path,
    *,
    settings: CorrectionTraining | None = None,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> ChatModel:
    """Train an adapter, write it into a folder, and return the model with it.

    Args:
        model: stays as it is.
        record: of its safety layers, which say where the adapter begins.
        rows: harmful requests, and harmless ones with the model's own replies.
        folder: gets `adapter_config.json` and `adapter_model.safetensors`.
        settings: of rank, steps, batch and learning rate; by itself a tenth of the correction's rate.
        seed: of initial weights and of the rows drawn.
        progress: told of every step.

    Raises:
        DataError: there are no harmful requests, or no harmless ones with replies.
        NonFiniteLossError: the loss became NaN or infinite.
        OutputError: the adapter cannot be written.
    """
    from peft import LoraConfig, get_peft_model
    from safetensors import SafetensorError

    settings = settings or CorrectionTraining(learning_rate=1e-3, batch_size=16)
    material = material_of(model, rows, record.template, settings)
    calm = _calm(model, rows, record)
    torch.manual_seed(seed)
    copied = copy.deepcopy(model.model)
    config = LoraConfig(r=settings.rank, lora_alpha=2 * settings.rank, target_modules=_targets(model, record))
    adapted = get_peft_model(copied, config)
    student = ChatModel(copied, model.tokenizer, name=f"{model.name}, adapter", batch_size=model.batch_size)
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=settings.learning_rate)
    for step in range(settings.steps):
        rng = random.Random(f"{seed} {step}")  # noqa: S311 - not a secret
        loss = _refusing(student, material, settings, rng) + _keeping(student, model, calm, settings, rng)
        if not torch.isfinite(loss):
            raise NonFiniteLossError(f"The adapter's loss became {loss.item()} at step {step}.", mend="Lower its rate.")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if progress:
            progress(step + 1, settings.steps, "training the adapter")
    try:
        adapted.save_pretrained(str(folder))
    except (OSError, SafetensorError) as error:
        raise OutputError(f"{folder}: the adapter cannot be written ({error}).", mend="Free some room.") from error
    student.model.requires_grad_(False)
    return student


def _targets(model: ChatModel, record: LayersRecord) -> list[str]:
    """Return the names of the linear projections that get adapters."""
    last = record.layers[-1]
    chosen = {id(module) for layer in model.layers[last : last + LAYERS] for _, module in linear_modules(layer)}
    return [name for name, module in model.model.named_modules() if id(module) in chosen]


def _calm(model: ChatModel, rows: Sequence[LabelledRow], record: LayersRecord) -> list[tuple[list[int], list[int]]]:
    """Return harmless requests with the model's own replies, as tokens."""
    own = [row for row in rows if not row.harmful and row.reply and row.refused == row.refuses]
    if not own:
        raise DataError("There are no harmless requests with replies to leave as they are.", mend="Give some hundred.")
    asked = render([row.prompt for row in own], model.tokenizer, record.template)
    pairs = (model.tokenizer(texts, add_special_tokens=False).input_ids for texts in (asked, [r.reply for r in own]))
    return list(zip(*pairs, strict=True))


def _refusing(student: ChatModel, material: Material, settings: CorrectionTraining, rng: random.Random) -> Tensor:
    begun = begun_rows(material, settings, rng)
    batch = student.batch_of([before + material.refusal for before in begun])
    last = len(material.refusal) + 1
    logits_BTV = student.logits(batch, last=last)[:, :-1].float()
    return functional.cross_entropy(logits_BTV.flatten(0, 1), batch.input_ids[:, 1 - last :].flatten())


def _keeping(
    student: ChatModel, teacher: ChatModel, calm: Sequence[tuple[list[int], list[int]]], settings: CorrectionTraining,
    rng: random.Random,
) -> Tensor:  # fmt: skip
    """Return how far the replies to harmless requests have moved from the bare model's, over their own tokens."""
    drawn = [rng.choice(calm) for _ in range(settings.batch_size)]
    batch = student.batch_of([asked + replied for asked, replied in drawn])
    last = 1 + max(len(replied) for _, replied in drawn)
    with torch.no_grad():
        wanted_BTV = teacher.logits(batch, last=last).float().log_softmax(-1)
    found_BTV = student.logits(batch, last=last).float().log_softmax(-1)
    moved_BT = (wanted_BTV.exp() * (wanted_BTV - found_BTV)).sum(-1)
    within_BT = torch.zeros_like(moved_BT)
    for row, (_, replied) in enumerate(drawn):
        within_BT[row, -1 - len(replied) :] = 1
    return (moved_BT * within_BT).sum() / within_BT.sum()
