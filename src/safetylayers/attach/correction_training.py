"""The correction learns through the frozen model to turn any point of a compliant reply into a refusal.

A row is a harmful request, the first tokens of a compliant reply (none to many: deep alignment, arXiv 2406.05946,
section 3), and a refusal. The gate is held open from the token before the refusal on; the loss is on the refusal
alone.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from safetylayers.attach.correction import Correction
from safetylayers.attach.gate import GateSettings
from safetylayers.attach.rows import REFUSALS, WRITTEN_COMPLIANCE, LabelledRow
from safetylayers.errors import DataError, NonFiniteLossError, OutputError
from safetylayers.models.interventions import changed_output
from safetylayers.prompts import Template, render
from safetylayers.prompts.prompt_set import content_hash
from safetylayers.records import ProgressCallback

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

SAVE_EVERY = 50


@dataclass(frozen=True)
class CorrectionTraining:
    """How the correction is trained."""

    rank: int = 16
    steps: int = 200
    batch_size: int = 32
    learning_rate: float = 1e-2
    longest_prefix: int = 40
    """Tokens of a compliant reply that may come before the refusal."""
    without_prefix: float = 0.3
    """Share of the rows whose refusal begins at once."""
    longest_prompt: int = 256
    """Tokens of a request; longer ones are left out."""


@dataclass(frozen=True)
class Material:
    """Tokens that training rows are put together from."""

    prompts: list[list[int]]
    compliant: list[list[int]]
    refusal: list[int]


def train_correction(
    model: ChatModel,
    layer: int,
    rows: Sequence[LabelledRow],
    template: Template,
    settings: CorrectionTraining,
    gate: GateSettings,
    folder: Path,
    *,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Correction:
    """Train a correction of a layer's output; a run that was interrupted goes on from its last checkpoint.

    Args:
        model: frozen throughout.
        layer: whose output is corrected.
        rows: harmful requests, and compliant replies for prefixes.
        template: how requests are rendered.
        settings: how.
        gate: for the strengths that the correction has to work at.
        folder: gets `correction.safetensors` while training.
        seed: of initial weights and of the rows drawn.
        progress: told of every step.

    Raises:
        DataError: there is no harmful request short enough.
        NonFiniteLossError: the loss became NaN or infinite.
    """
    material = material_of(model, rows, template, settings)
    torch.manual_seed(seed)
    place = next(model.layers[layer].parameters()).device
    correction = Correction(model.hidden_size, settings.rank).to(place)
    optimizer = torch.optim.AdamW(correction.parameters(), lr=settings.learning_rate, weight_decay=0.0)
    plan = content_hash([[model.weights_hash, str(layer), str(settings), str(gate), str(seed), str(material)]])
    checkpoint = folder / "correction.safetensors"
    begun = _resume(checkpoint, plan, correction, optimizer)
    frozen = [parameter for parameter in model.model.parameters() if parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        for step in range(begun, settings.steps):
            rng = random.Random(f"{seed} {step}")  # noqa: S311 - not a secret; a step's rows do not depend on those before
            loss = _loss(model, layer, correction, material, settings, gate, rng)
            if not torch.isfinite(loss):
                raise NonFiniteLossError(
                    f"The correction's loss became {loss.item()} at step {step}.",
                    mend="Lower the learning rate of the correction.",
                )
            for group in optimizer.param_groups:
                group["lr"] = _rate(step, settings)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if (step + 1) % SAVE_EVERY == 0:
                _save(checkpoint, plan, step + 1, correction, optimizer)
            if progress:
                progress(step + 1, settings.steps, "training the correction")
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
    return correction.cpu().requires_grad_(False)


def material_of(
    model: ChatModel, rows: Sequence[LabelledRow], template: Template, settings: CorrectionTraining
) -> Material:
    """Return what rows give to learn refusing from.

    Raises:
        DataError: there is no harmful request short enough.
    """
    harmful = [row.prompt for row in rows if row.harmful]
    texts = render(harmful, model.tokenizer, template) if harmful else []
    asked = [ids for ids in _ids(model, texts) if len(ids) <= settings.longest_prompt]
    if not asked:
        raise DataError("There is no harmful request to learn refusing from.", mend="Give rows marked harmful.")
    own = [row.reply for row in rows if row.reply and row.refused is False]
    compliant = _ids(model, [*own, *WRITTEN_COMPLIANCE * max(1, len(own) // 8)])
    refusal = [*_ids(model, [REFUSALS[0]])[0], model.ends_of_text[0]]
    return Material(asked, [ids for ids in compliant if ids], refusal)


def _ids(model: ChatModel, texts: Sequence[str]) -> list[list[int]]:
    found: list[list[int]] = model.tokenizer(list(texts), add_special_tokens=False).input_ids if texts else []
    return found


def _loss(
    model: ChatModel,
    layer: int,
    correction: Correction,
    material: Material,
    settings: CorrectionTraining,
    gate: GateSettings,
    rng: random.Random,
) -> Tensor:
    """Return the refusal's loss on one batch; refusals end at the last column, so only their logits are computed."""
    begun = begun_rows(material, settings, rng)
    batch = model.batch_of([before + material.refusal for before in begun])
    last = len(material.refusal) + 1
    strength_BT1 = torch.zeros(*batch.input_ids.shape, 1, device=model.device)
    for row in range(len(begun)):
        strength_BT1[row, -last:] = rng.uniform(gate.weakest, gate.strongest)

    def corrected(hidden_BTH: Tensor) -> Tensor:
        strength = strength_BT1.to(hidden_BTH.device)
        changed_BTH: Tensor = hidden_BTH + (strength * correction(hidden_BTH)).to(hidden_BTH.dtype)
        return changed_BTH

    with changed_output(model.layers[layer], corrected):
        logits_BTV = model.logits(batch, last=last)[:, :-1].float()
    return functional.cross_entropy(logits_BTV.flatten(0, 1), batch.input_ids[:, 1 - last :].flatten())


def begun_rows(material: Material, settings: CorrectionTraining, rng: random.Random) -> list[list[int]]:
    """Draw a batch of harmful requests, each with the first tokens of a compliant reply: none to many."""
    return [rng.choice(material.prompts) + _prefix(material, settings, rng) for _ in range(settings.batch_size)]


def _prefix(material: Material, settings: CorrectionTraining, rng: random.Random) -> list[int]:
    """Return the first tokens of compliant replies, strung together until they are long enough."""
    if not material.compliant or rng.random() < settings.without_prefix:
        return []
    wanted, prefix = rng.randint(1, settings.longest_prefix), list[int]()
    while len(prefix) < wanted:
        prefix += rng.choice(material.compliant)
    return prefix[:wanted]


def _rate(step: int, settings: CorrectionTraining) -> float:
    """Return the learning rate: up over a tenth of the steps, then down to zero along a cosine."""
    rise = max(1, settings.steps // 10)
    if step < rise:
        return settings.learning_rate * (step + 1) / rise
    return settings.learning_rate * (1 + math.cos(math.pi * (step - rise) / max(1, settings.steps - rise))) / 2


def _save(path: Path, plan: str, step: int, correction: Correction, optimizer: torch.optim.Optimizer) -> None:
    """Keep everything that the next step depends on; the learning rate and the rows depend on the step alone."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {f"correction.{name}": tensor.cpu() for name, tensor in correction.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor.cpu() for name, tensor in moments.items()}
    scratch = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, scratch, metadata={"plan": plan, "step": str(step)})
        scratch.replace(path)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"{path}: the checkpoint cannot be written ({error}).", mend="Free some room.") from error


def _resume(path: Path, plan: str, correction: Correction, optimizer: torch.optim.Optimizer) -> int:
    """Take up the last checkpoint of this very run; return how many steps are done."""
    from safetensors import safe_open

    if not path.exists():
        return 0
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        if metadata["plan"] != plan:
            return 0
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
    correction.load_state_dict({name: tensors[f"correction.{name}"] for name in correction.state_dict()})
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".")
            moments.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(metadata["step"])
