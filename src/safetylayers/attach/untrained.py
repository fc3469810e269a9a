"""Safety layers made of the map alone: its probe watches, its refusal direction steers. Nothing is trained."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from safetylayers.attach.calibration import NEVER_BELOW
from safetylayers.attach.correction import Correction
from safetylayers.attach.gate import HARM, GateSettings, HeadCalibration, Thresholds
from safetylayers.attach.heads import Heads
from safetylayers.attach.health import examine
from safetylayers.attach.layers import LayersRecord, SafetyLayers
from safetylayers.evaluate import PatternJudge, Verdict
from safetylayers.locate import SafetyMap
from safetylayers.models.interventions import add_direction, changed_output
from safetylayers.prompts import builtin, render
from safetylayers.records import Provenance

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

STEPS = (0.1, 0.2, 0.4, 0.8, 1.6)
"""Lengths of the step that are tried, as shares of a hidden state's usual length."""
ENOUGH = 0.9
TRIED = 40
"""Malicious prompts that a step is tried on."""


def from_map(model: ChatModel, found: SafetyMap) -> SafetyLayers:
    """Make safety layers of a map: its best probe within the safety layers, and a step along its refusal direction.

    The probe was trained at prompts' ends, so replies are not judged. The step is the shortest of `STEPS` that makes
    nine in ten malicious prompts of the calibration split refused, or the one with most refusals.

    Raises:
        WrongModelError: the map is another model's.
        NoSafetyLayersError: the model has none.
    """
    found.check(model)
    first, last = found.range
    layer = max(range(first, last + 1), key=lambda k: found.record.probes[k].auroc)
    weights, bias = found.tensors["probe_weights"][layer], found.tensors["probe_bias"][layer]
    heads = Heads.of_probes(weights[None].float(), bias[None].float(), HARM).requires_grad_(False)
    limits = Thresholds(prompt=found.record.probes[layer].threshold, mean=NEVER_BELOW, peak=NEVER_BELOW)
    record = LayersRecord(
        provenance=Provenance(model=model.name, model_hash=model.weights_hash),
        map_hash=found.content_hash, n_layers=model.n_layers, hidden_size=model.hidden_size,
        layers=(layer,), placed_by="map", template=found.record.template, trained=False,
        heads=(HARM,), width=0, pools=0, rank=0,
        calibration={HARM: HeadCalibration(thresholds=limits)}, gate=GateSettings(strongest=1.0),
    )  # fmt: skip
    step_H = _step(model, found, layer, found.tensors["refusal_directions"][layer].float())
    made = SafetyLayers(record, heads, Correction.steering(step_H).requires_grad_(False))
    return replace(made, record=record.model_copy(update={"health": examine(model, made)}))


def _step(model: ChatModel, found: SafetyMap, layer: int, direction_H: Tensor) -> Tensor:
    """Return the shortest step that makes malicious prompts refused."""
    texts = render(builtin("malicious", "calibration").take(TRIED).texts, model.tokenizer, found.record.template)
    usual = model.hidden_states(texts, layers=[layer]).norm(dim=-1).mean()
    refusals = []
    for share in STEPS:
        with changed_output(model.layers[layer], add_direction(direction_H, float(share * usual))):
            replies = model.generate(texts, max_new_tokens=16)
        verdicts = PatternJudge().judge([""] * len(replies), replies)
        refusals.append(sum(verdict is Verdict.REFUSED for verdict in verdicts))
        if refusals[-1] >= ENOUGH * len(texts):
            break
    step_H: Tensor = direction_H * STEPS[refusals.index(max(refusals))] * usual
    return step_H
