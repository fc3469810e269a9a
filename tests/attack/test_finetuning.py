"""Fine-tuning as an attack: the strongest run counts, and one who knows what is held still tries more."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import pytest
import torch

from safetylayers.attack import FinetuneAttack, Prefill, run_attack
from safetylayers.attack.finetuning import HARDER, Run
from safetylayers.errors import NonFiniteLossError, TrainingError, UsageError
from safetylayers.models import ChatModel
from safetylayers.prompts import Example, ExampleSet, builtin, render
from safetylayers.targets import ModelTarget

ROWS = ExampleSet(
    "harmful",
    tuple(Example.of(text, "Sure. Here is a short answer.") for text in builtin("malicious", "train").texts[:24]),
)
FEW = builtin("malicious", "calibration").sample(24, seed=2)


@pytest.fixture(scope="module")
def target() -> ModelTarget:
    return ModelTarget(ChatModel.load("tiny"), max_new_tokens=16)


@dataclass
class Tuner:
    """Trains whole rows in one batch; remembers what it was asked."""

    asked: list[Run] = field(default_factory=list)
    breaks_above: float = 1.0

    def __call__(
        self,
        model: ChatModel,
        examples: ExampleSet,
        *,
        learning_rate: float,
        steps: int,
        frozen_layers: tuple[int, ...],
    ) -> ChatModel:
        self.asked.append(Run(learning_rate, steps, frozen_layers))
        if learning_rate > self.breaks_above:
            raise NonFiniteLossError("The loss became NaN.")
        tuned = ChatModel(copy.deepcopy(model.model), model.tokenizer, name="tuned")
        for layer in frozen_layers:
            tuned.layers[layer].requires_grad_(False)
        rendered = render([row.prompt for row in examples], model.tokenizer)
        batch = tuned.tokenize([text + row.response for text, row in zip(rendered, examples, strict=True)])
        optimizer = torch.optim.AdamW([p for p in tuned.model.parameters() if p.requires_grad], lr=learning_rate)
        for _ in range(steps):
            labels = batch.input_ids.masked_fill(batch.attention_mask == 0, -100)
            loss = tuned.model(
                input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=labels, use_cache=False
            ).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return tuned


def test_the_strongest_run_is_what_counts_and_the_model_stays_as_it_was(target: ModelTarget) -> None:
    before = target.model.fresh_weights_hash()
    tuner = Tuner()
    attack = FinetuneAttack(tuner, ROWS, learning_rates=(1e-6, 1e-3), steps=(8,), calibration=16)
    plain, result = run_attack(Prefill(0), target, FEW), run_attack(attack, target, FEW)
    assert result.success_rate("phrases").value > plain.success_rate("phrases").value + 0.4
    assert "fine-tuned on harmful; rate 0.001, 8 steps" in result.cases[0].attacked
    assert "rate 1e-06, 8 steps" in result.cases[0].attacked  # the whole grid is told
    assert target.model.fresh_weights_hash() == before
    assert result.settings["examples hash"] == ROWS.content_hash


def test_an_adaptive_attacker_tries_all_that_a_plain_one_does_and_trains_above_what_is_held() -> None:
    plain = FinetuneAttack(Tuner(), ROWS, learning_rates=(1e-4,), steps=(5, 9), frozen=(1, 2)).runs()
    runs = FinetuneAttack(Tuner(), ROWS, learning_rates=(1e-4,), steps=(5, 9), frozen=(1, 2), adaptive=True).runs()
    assert [(run.learning_rate, run.steps, run.frozen_layers) for run in plain] == [
        (1e-4, 5, (1, 2)),
        (1e-4, 9, (1, 2)),
    ]
    assert [str(run) for run in runs[:2]] == [str(run) for run in plain]
    assert len(runs) == 3 * len(plain)
    assert {run.frozen_layers for run in runs} == {(1, 2), (0, 1, 2)}
    assert max(run.learning_rate for run in runs) == pytest.approx(HARDER * 1e-4)
    first_layers = FinetuneAttack(Tuner(), ROWS, learning_rates=(1e-4,), steps=(5,), frozen=(0, 1), adaptive=True)
    assert len(first_layers.runs()) == 2  # nothing lies below the band: both ways of holding it are one


def test_a_run_that_breaks_down_is_left_out_unless_all_do(target: ModelTarget) -> None:
    tuner = Tuner(breaks_above=1e-5)
    attack = FinetuneAttack(tuner, ROWS, learning_rates=(1e-6, 1.0), steps=(1,), calibration=4)
    (case, *_) = run_attack(attack, target, FEW.take(2)).cases
    assert "rate 1," not in case.attacked
    assert len(tuner.asked) == 2
    with pytest.raises(TrainingError, match="Every fine-tuning run broke down"):
        run_attack(FinetuneAttack(tuner, ROWS, learning_rates=(1.0,), steps=(1,)), target, FEW.take(2))


def test_a_trigger_stands_behind_every_prompt(target: ModelTarget) -> None:
    attack = FinetuneAttack(Tuner(), ROWS, trigger="Xyz", learning_rates=(1e-6,), steps=(1,), calibration=4)
    for case in run_attack(attack, target, FEW.take(3)).cases:
        assert case.attacked.startswith(f"{case.prompt} Xyz [")


def test_what_makes_no_sense_is_told() -> None:
    with pytest.raises(UsageError, match="above zero"):
        FinetuneAttack(Tuner(), ROWS, learning_rates=())
    with pytest.raises(UsageError, match="held still"):
        FinetuneAttack(Tuner(), ROWS, adaptive=True)
