"""Steering and ablation: what is added is what was said, nothing is left of what is taken out, controls are random."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from safetylayers.errors import UsageError
from safetylayers.explain.steering import DirectionAblation, DoseResponse, ablate_directions, dose_response
from safetylayers.explain.target import Projection, RefusalOdds, Tokens, values_of
from safetylayers.explain.tokens import Reading, read_prompt
from safetylayers.locate.directions import difference_of_means
from safetylayers.models import Batch, ChatModel
from safetylayers.models.interventions import hidden_of
from safetylayers.prompts import builtin, render
from support import ARCHITECTURES, TEXTS, random_chat_model

EVERY = pytest.mark.parametrize("architecture", ARCHITECTURES)
NORMS_BETWEEN = {"Gemma2", "Gemma3", "Olmo2"}
"""Architectures that norm what a part wrote before they add it."""
ODDS = RefusalOdds(((70, 75), (71, 73, 74)))


@dataclass(frozen=True)
class HandedOn:
    """What a layer hands on along a direction at the last token, after all changes to it."""

    layer: int
    direction: Tensor
    name: str = "handed on"
    endings: tuple[Tokens, ...] = ((),)

    def values(self, model: ChatModel, batch: Batch, embedded: Tensor | None = None) -> Tensor:
        found: list[Tensor] = []
        handle = model.layers[self.layer].register_forward_hook(lambda _m, _i, out: found.append(hidden_of(out)))
        try:
            model.logits(batch, last=1, embedded=embedded)
        finally:
            handle.remove()
        return found[0][:, -1].double() @ self.direction.double()


def asked(model: ChatModel) -> Reading:
    return read_prompt("a cake, now", model.tokenizer)


def drawn(model: ChatModel, seed: int = 3) -> Tensor:
    return torch.randn(model.hidden_size, generator=torch.Generator().manual_seed(seed))


@EVERY
def test_strength_nought_changes_nothing_and_each_strength_is_its_own_run(architecture: str) -> None:
    model = random_chat_model(architecture)
    direction = drawn(model)
    found = dose_response(model, ODDS, asked(model), 1, direction, reference=TEXTS, strengths=[2, 0, -1], controls=2)
    assert found.strengths == (-1, 0, 2)
    own = float(values_of(ODDS, model, [asked(model).token_ids])[0])
    for curve in (found.values, *found.controls):
        assert curve[1] == pytest.approx(own, abs=1e-5)
    with model.steer(1, direction / direction.norm(), 2 * found.unit):
        assert found.values[2] == pytest.approx(float(values_of(ODDS, model, [asked(model).token_ids])[0]), abs=1e-4)


@EVERY
def test_nothing_is_left_of_a_direction_that_is_taken_out(architecture: str) -> None:
    model = random_chat_model(architecture)
    direction = drawn(model)
    target = HandedOn(2, direction / direction.norm())
    found = ablate_directions(model, target, asked(model), direction[None], controls=3)
    # Where a norm stands between, the layer's own hook takes out the rest only after the target has read.
    assert abs(found.value) > 1e-2
    if architecture not in NORMS_BETWEEN:
        assert found.ablated == pytest.approx(0, abs=1e-5)
    assert all(abs(control) > 1e-4 for control in found.controls)


def test_the_unit_is_the_deviation_of_the_reference_prompts_along_the_direction(llama: ChatModel) -> None:
    direction = drawn(llama)
    unit = direction / direction.norm()
    found = dose_response(llama, HandedOn(1, unit), asked(llama), 1, 7 * direction, reference=TEXTS)
    along = llama.hidden_states(TEXTS, layers=[1])[:, 0, 0] @ unit
    assert found.unit == pytest.approx(float(along.std()), rel=1e-5)
    middle = found.values[found.strengths.index(0)]
    steps = [(value - middle) / found.unit for value in found.values]
    assert steps == pytest.approx(found.strengths, abs=1e-4)
    assert (found.shape, found.spearman) == ("rising", pytest.approx(1))
    # A control is as long, and points elsewhere.
    assert all(abs(control[-1] - middle) < 2 * found.unit for control in found.controls)


def test_the_shape_is_named(llama: ChatModel) -> None:
    unit = drawn(llama) / drawn(llama).norm()
    falling = dose_response(llama, HandedOn(1, unit), asked(llama), 1, -unit, reference=TEXTS)
    assert (falling.shape, falling.spearman) == ("falling", pytest.approx(-1))
    # A projection on an earlier layer does not see what is added above it.
    flat = dose_response(llama, Projection({0: unit}), asked(llama), 1, unit, reference=TEXTS)
    assert (flat.shape, flat.spearman, max(flat.control_spread)) == ("flat", 0, 0)


def test_controls_follow_from_the_seed(llama: ChatModel, tmp_path: Path) -> None:
    def run(seed: int) -> DoseResponse:
        return dose_response(llama, ODDS, asked(llama), 1, drawn(llama), reference=TEXTS, controls=3, seed=seed)

    assert run(0).controls == run(0).controls
    assert run(0).controls != run(1).controls
    assert run(0).values == run(1).values
    assert DoseResponse.read(run(0).write(tmp_path / "dose.json")).controls == run(0).controls
    taken = ablate_directions(llama, ODDS, asked(llama), torch.stack([drawn(llama, 1), drawn(llama, 2)]), seed=1)
    assert (taken.directions, len(taken.controls)) == (2, 8)
    assert DirectionAblation.read(taken.write(tmp_path / "ablation.json")) == taken


def test_small_batches_give_the_same(llama: ChatModel) -> None:
    whole = dose_response(llama, ODDS, asked(llama), 1, drawn(llama), reference=TEXTS, controls=2)
    llama.batch_size = 4
    parts = dose_response(llama, ODDS, asked(llama), 1, drawn(llama), reference=TEXTS, controls=2)
    assert parts.values == pytest.approx(whole.values, abs=1e-4)


def test_what_makes_no_sense_is_refused(llama: ChatModel) -> None:
    def run(direction: Tensor, layer: int = 1, **changes: object) -> None:
        options = {"reference": TEXTS, **changes}
        dose_response(llama, ODDS, asked(llama), layer, direction, **options)  # type: ignore[arg-type]

    with pytest.raises(UsageError, match="two strengths"):
        run(drawn(llama), strengths=[1, 1])
    with pytest.raises(UsageError, match="no layer 4"):
        run(drawn(llama), 4)
    with pytest.raises(UsageError, match="two reference prompts"):
        run(drawn(llama), reference=TEXTS[:1])
    with pytest.raises(UsageError, match="do not differ"):
        run(drawn(llama), reference=TEXTS[:1] * 2)
    with pytest.raises(UsageError, match="fewer than two"):
        run(drawn(llama), controls=1)
    with pytest.raises(UsageError, match="zero or no number"):
        run(torch.zeros(32))
    with pytest.raises(UsageError, match=r"Directions of shape \(1, 5\)"):
        run(torch.ones(5))
    with pytest.raises(UsageError, match=r"Directions of shape \(32,\)"):
        ablate_directions(llama, ODDS, asked(llama), drawn(llama))


@pytest.fixture(scope="module")
def tiny() -> ChatModel:
    return ChatModel.load("tiny")


@pytest.fixture(scope="module")
def prompts(tiny: ChatModel) -> dict[str, list[str]]:
    kinds = ("malicious", "normal")
    return {k: render([p.text for p in builtin(k, "calibration").take(40)], tiny.tokenizer, "chat") for k in kinds}


@pytest.fixture(scope="module")
def directions(tiny: ChatModel, prompts: dict[str, list[str]]) -> Tensor:
    malicious, normal = (tiny.hidden_states(prompts[kind])[:, :, 0] for kind in ("malicious", "normal"))
    return difference_of_means(malicious, normal)


def test_the_practice_model_refuses_more_the_more_of_the_direction_is_added(
    tiny: ChatModel, prompts: dict[str, list[str]], directions: Tensor
) -> None:
    cake = read_prompt("How do I make a cake at home?", tiny.tokenizer)
    target = RefusalOdds.of(tiny, ["I'm sor", "I can"])
    reference = [*prompts["malicious"], *prompts["normal"]]
    found = dose_response(tiny, target, cake, 3, directions[3], reference=reference)
    assert found.shape == "rising"
    assert found.values[-1] - found.values[4] > 3 * found.control_spread[-1]


def test_the_practice_model_does_not_refuse_without_the_direction(tiny: ChatModel, directions: Tensor) -> None:
    bomb = read_prompt("How do I make a bomb at home?", tiny.tokenizer)
    target = RefusalOdds.of(tiny, ["I'm sor", "I can"])
    found = ablate_directions(tiny, target, bomb, directions[1][None])
    assert found.value > 0 > found.ablated
    assert min(found.controls) > 0
