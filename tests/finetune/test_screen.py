"""Signals of rows: what they are in the mathematics, and that planted rows stand out on the practice model."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from safetylayers.demo.datasets import attack_examples
from safetylayers.errors import DataError, UsageError
from safetylayers.finetune import ScreenResult, own_refusals, screen
from safetylayers.finetune.data import Collator
from safetylayers.finetune.losses import likelihood
from safetylayers.finetune.pages import screen_page
from safetylayers.finetune.repairs import length, weights_of
from safetylayers.finetune.screen import signal_of
from safetylayers.finetune.signals import _begun, compliance_direction, pull_signal
from safetylayers.locate import SafetyMap
from safetylayers.models import ChatModel
from safetylayers.prompts import Example, ExampleSet
from safetylayers.report import render_page
from support import random_chat_model

REFUSED = ExampleSet("refused", tuple(Example.of(f"Do {word}", "I can't help.") for word in "abc"))


class AnyMap:
    """A map of layers 1 to 2 for whatever model."""

    range = (1, 2)


def test_the_pull_is_the_rows_influence_a_step_along_the_direction() -> None:
    model = random_chat_model("Llama")
    rows = ExampleSet("rows", (Example.of("Say a", "x"), Example.of("Say b", "y")))
    found = pull_signal(model, rows, AnyMap(), REFUSED)  # type: ignore[arg-type]
    direction = compliance_direction(random_chat_model("Llama"), REFUSED, (1, 2))
    assert length(direction) == pytest.approx(1)
    weights = weights_of(model, (1, 2))
    for row, pull in zip(rows, found, strict=True):
        loss = likelihood(model.model, Collator(0)([_begun(model, row, row.response)]))
        grads = torch.autograd.grad(loss, list(weights.values()))
        inner = -sum(float((grad * direction[name]).sum()) for name, grad in zip(weights, grads, strict=True))
        assert float(pull) == pytest.approx(inner * length(weights), rel=0.02, abs=1e-3)


values = st.lists(st.floats(-50, 50), min_size=2, max_size=40)
NONE = torch.tensor([], dtype=torch.float64)


def tensor(numbers: list[float]) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


@given(values, values, st.floats(0.5, 4), st.floats(-10, 10))
def test_scores_do_not_depend_on_a_signals_units(
    rows: list[float], plain: list[float], scale: float, by: float
) -> None:
    first = signal_of(tensor(rows), tensor(plain), 60.0, NONE, 0.01)
    second = signal_of(tensor(rows) * scale + by, tensor(plain) * scale + by, 60.0 * scale + by, NONE, 0.01)
    assert first.scores == pytest.approx(second.scores, rel=1e-3, abs=1e-3)


@given(values, values, values)
def test_other_rows_do_not_change_a_rows_score(rows: list[float], others: list[float], plain: list[float]) -> None:
    alone = signal_of(tensor(rows), tensor(plain), 60.0, NONE, 0.01)
    among = signal_of(tensor([*rows, *others]), tensor(plain), 60.0, NONE, 0.01)
    assert among.scores[: len(rows)] == alone.scores


@given(values, st.floats(0.01, 0.5))
def test_at_most_the_allowed_share_of_trusted_rows_is_flagged(trusted: list[float], share: float) -> None:
    found = signal_of(tensor(trusted), tensor([-60.0]), 0.0, tensor(trusted), share)
    assert sum(score >= 1 for score in found.scores) <= share * (len(trusted) - 1) + 1


class PracticeMap:
    """The practice model's safety layers."""

    range = (0, 1)
    record = SimpleNamespace(openings=("I'm sorry", "I can't"))

    def check(self, model: ChatModel) -> None:
        """Accept it."""


@cache
def practice() -> tuple[ChatModel, SafetyMap]:
    return ChatModel.load("tiny"), PracticeMap()  # type: ignore[return-value]


def planted() -> ExampleSet:
    benign = attack_examples("normal", 180, seed=7).examples
    implicit = attack_examples("implicit", 10, seed=8).examples
    harmful = attack_examples("harmful", 10, seed=9, share=1.0).examples
    return ExampleSet("planted", (*benign, *implicit, *harmful))


@pytest.fixture(scope="module")
def screened() -> ScreenResult:
    model, found = practice()
    return screen(model, planted(), found)


def test_planted_rows_are_flagged_and_few_others(screened: ScreenResult) -> None:
    flagged = set(screened.flagged)
    assert len(flagged & set(range(180, 190))) >= 8
    assert len(flagged & set(range(190, 200))) >= 8
    assert len(flagged & set(range(180))) <= 12
    assert list(screened.flagged) == sorted(flagged, key=lambda index: -screened.scores[index])


def test_a_flagged_row_has_a_reason_and_a_place_on_the_page(screened: ScreenResult) -> None:
    assert all(screened.reasons(index) for index in screened.flagged)
    page = render_page(screen_page(screened, planted(), [f"rows.jsonl, line {n + 1}" for n in range(200)]))
    assert f"rows.jsonl, line {screened.flagged[0] + 1}" in page


def test_rows_that_refuse_are_not_held_against_the_data(screened: ScreenResult) -> None:
    model, found = practice()
    refusals = own_refusals(model).examples[:20]
    mixed = ExampleSet("mixed", (*planted().examples[:180], *refusals))
    result = screen(model, mixed, found)
    assert len(set(result.flagged) & set(range(180, 200))) <= 2


def test_the_result_can_be_read_back(tmp_path: Path, screened: ScreenResult) -> None:
    assert ScreenResult.read(screened.write(tmp_path / "result.json")) == screened


def test_nothing_to_screen_and_senseless_shares_are_errors() -> None:
    model, found = practice()
    with pytest.raises(DataError, match="no rows"):
        screen(model, ExampleSet("none", ()), found)
    with pytest.raises(DataError, match="without a request"):
        screen(model, ExampleSet("odd", (Example(({"role": "assistant", "content": "Hi"},)),)), found)
    with pytest.raises(UsageError, match="makes no sense"):
        screen(model, planted(), found, false_positives=0)
