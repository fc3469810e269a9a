"""Directions as causes: what the target does when a direction is taken out of the residual stream or added to it.

Taking it out at all layers and positions, and adding it to one layer's output, are arXiv 2406.11717, section 2.4. What
a direction does means something next to what random directions of the same length do.

Shapes: N prompts, B rows, C controls, K directions, H hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from safetylayers.errors import UsageError
from safetylayers.explain.target import Target, values_of
from safetylayers.explain.tokens import Reading
from safetylayers.models.ablation import ablated, orthonormal
from safetylayers.models.batching import run_batched
from safetylayers.records import ProgressCallback, Provenance, Record

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

STRENGTHS = (-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)
CONTROLS = 8
"""Random directions."""
ROUNDING = 1e-6
"""Of an output's length: by so much the same prompt may differ from itself in another row."""
Shape = Literal["rising", "falling", "flat", "neither"]


class Steered(Record):
    """A prompt, and the direction that was added or taken out."""

    schema_version: Literal[1] = 1
    provenance: Provenance
    target: str
    prompt: str
    direction: str
    """How its user calls it."""


class DoseResponse(Steered):
    """The target's value against how much of a direction is added to one layer's output, at every position."""

    layer: int
    unit: float
    """Length of what strength 1 adds: the standard deviation, over the reference prompts' last tokens, of the layer's
    output along the direction."""
    reference: int
    """So many prompts."""
    strengths: tuple[float, ...]
    """In units, ascending."""
    values: tuple[float, ...]
    shape: Shape
    """Whether the value never falls, never rises, stays or does both, over the strengths shown."""
    spearman: float
    """Rank correlation of strength and value; 0 where the value stays."""
    controls: tuple[tuple[float, ...], ...]
    """The values for each random direction of the same length: [directions, strengths]."""
    control_spread: tuple[float, ...]
    """Standard deviation of the controls at each strength."""


class DirectionAblation(Steered):
    """The target's value with directions taken out of everything that writes to the residual stream."""

    directions: int
    value: float
    """With nothing taken out."""
    ablated: float
    controls: tuple[float, ...]
    """With as many random directions taken out instead."""
    control_spread: float
    """Standard deviation of the controls."""


def dose_response(
    model: ChatModel,
    target: Target,
    reading: Reading,
    layer: int,
    direction_H: Tensor,
    *,
    reference: Sequence[str],
    strengths: Sequence[float] = STRENGTHS,
    controls: int = CONTROLS,
    seed: int = 0,
    direction: str = "refusal direction",
    progress: ProgressCallback | None = None,
) -> DoseResponse:
    """Add a direction to a layer's output at several strengths, and random ones of the same length.

    Args:
        model: that is steered.
        target: what is measured.
        reading: the prompt.
        layer: whose output the direction is added to.
        direction_H: of whatever length, such as a row of a safety map's `refusal_directions`.
        reference: rendered prompts, harmful and harmless ones, that set the unit.
        strengths: in units; two at least.
        controls: random directions, two at least.
        seed: of the random directions.
        direction: how it is called in the result.
        progress: told after each direction.

    Raises:
        UsageError: there is no such layer or direction, the prompts do not differ along it, or there are too few
            strengths or controls.
    """
    doses = tuple(sorted(set(map(float, strengths))))
    if len(doses) < 2:
        raise UsageError("A dose-response needs two strengths at least.", mend="Give several, such as -1, 0 and 1.")
    _check(model, direction_H[None], controls)
    unit_H = direction_H.double().cpu() / direction_H.double().norm().cpu()
    unit = _unit(model, layer, unit_H, reference)
    curves = []
    for one_H in (unit_H, *_random(controls, model.hidden_size, seed)):
        curves.append(_curve(model, target, reading, layer, one_H, [unit * dose for dose in doses]))
        if progress:
            progress(len(curves), controls + 1, "directions added")
    values, *others = curves
    shape = _shape(values)
    return DoseResponse(
        **_header(model, target, reading, direction, seed),
        layer=layer,
        unit=unit,
        reference=len(reference),
        strengths=doses,
        values=values,
        shape=shape,
        spearman=0.0 if shape == "flat" else _spearman(doses, values),
        controls=tuple(others),
        control_spread=tuple(np.std(others, axis=0, ddof=1).tolist()),
    )


def ablate_directions(
    model: ChatModel,
    target: Target,
    reading: Reading,
    directions_KH: Tensor,
    *,
    controls: int = CONTROLS,
    seed: int = 0,
    direction: str = "refusal direction",
) -> DirectionAblation:
    """Take directions out of the residual stream at all layers and positions, and as many random ones.

    Args:
        model: that reads.
        target: what is measured.
        reading: the prompt.
        directions_KH: of whatever length; their whole span is taken out.
        controls: random draws, two at least.
        seed: of the random directions.
        direction: how it is called in the result.

    Raises:
        UsageError: a direction is not the model's, is zero or depends on the others, or there are too few controls.
    """
    _check(model, directions_KH, controls)
    drawn_CKH = _random(controls * len(directions_KH), model.hidden_size, seed).view(controls, -1, model.hidden_size)
    taken = [orthonormal(each_KH) for each_KH in (directions_KH.cpu(), *drawn_CKH)]
    value, *after = (_without(model, target, reading, basis_KH) for basis_KH in (None, *taken))
    return DirectionAblation(
        **_header(model, target, reading, direction, seed),
        directions=len(directions_KH),
        value=value,
        ablated=after[0],
        controls=tuple(after[1:]),
        control_spread=float(np.std(after[1:], ddof=1)),
    )


def _without(model: ChatModel, target: Target, reading: Reading, basis_KH: Tensor | None) -> float:
    with ablated(model, basis_KH) if basis_KH is not None else nullcontext():
        return float(values_of(target, model, [reading.token_ids])[0])


def _curve(
    model: ChatModel, target: Target, reading: Reading, layer: int, unit_H: Tensor, lengths: Sequence[float]
) -> tuple[float, ...]:
    """Return the target's value with so much of a direction added."""
    endings = target.endings
    rows = [[*reading.token_ids, *ending] for ending in endings]

    def work(indices: list[int]) -> list[float]:
        strengths_B = torch.tensor([lengths[index] for index in indices]).repeat_interleave(len(endings))
        with model.steer(layer, unit_H, strengths_B), torch.inference_mode():
            found: list[float] = target.values(model, model.batch_of(rows * len(indices))).tolist()
        return found

    size = max(1, model.batch_size // len(endings))
    return tuple(run_batched([len(reading.token_ids)] * len(lengths), size, work, what="steered runs"))


def _unit(model: ChatModel, layer: int, unit_H: Tensor, reference: Sequence[str]) -> float:
    """Return the standard deviation of a layer's output along a direction."""
    if not 0 <= layer < model.n_layers:
        raise UsageError(f"There is no layer {layer}.", mend=f"{model.name} has layers 0 to {model.n_layers - 1}.")
    if len(reference) < 2:
        raise UsageError("The unit needs two reference prompts at least.", mend="Give harmful and harmless ones.")
    states_NH = model.hidden_states(reference, layers=[layer])[:, 0, 0].double()
    unit = float((states_NH @ unit_H).std())
    if unit <= ROUNDING * float(states_NH.norm(dim=1).mean()):
        raise UsageError("The reference prompts do not differ along the direction.", mend="Give other prompts.")
    return unit


def _shape(values: Sequence[float]) -> Shape:
    steps = np.diff(values)
    if not steps.any():
        return "flat"
    return "rising" if (steps >= 0).all() else "falling" if (steps <= 0).all() else "neither"


def _spearman(strengths: Sequence[float], values: Sequence[float]) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(strengths, values).statistic)


def _random(count: int, size: int, seed: int) -> Tensor:
    """Return random unit directions [count, H]: the same for the same seed on every device."""
    drawn = torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    unit: Tensor = drawn / drawn.norm(dim=1, keepdim=True)
    return unit


def _check(model: ChatModel, directions_KH: Tensor, controls: int) -> None:
    if directions_KH.dim() != 2 or directions_KH.shape[1] != model.hidden_size:
        raise UsageError(
            f"Directions of shape {tuple(directions_KH.shape)}.", mend=f"{model.name} needs [K, {model.hidden_size}]."
        )
    if not bool(directions_KH.norm(dim=1).gt(0).all()):  # NaN as well
        raise UsageError(
            "A direction is zero or no number.", mend="Give the direction of a layer where prompts differ."
        )
    if controls < 2:
        raise UsageError("Random directions have no spread if there are fewer than two.", mend="Use 8 controls.")


def _header(model: ChatModel, target: Target, reading: Reading, direction: str, seed: int) -> dict[str, Any]:
    """What all results begin with: the fields of `Steered`."""
    return {
        "provenance": Provenance(model=model.name, model_hash=model.weights_hash, seed=seed),
        "target": target.name,
        "prompt": reading.prompt,
        "direction": direction,
    }
