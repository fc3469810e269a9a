"""What explanations are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from safetylayers.explain import Explainer
from safetylayers.explain.faithfulness import Measured
from safetylayers.explain.saliency import Explained, drawn
from safetylayers.explain.tokens import read_prompt
from safetylayers.models import Batch, ChatModel


@dataclass(frozen=True)
class Counted:
    """A number that is known: each byte is worth something by itself, and more where `also` is there as well."""

    worth: dict[str, float]
    also: str = ""
    name: str = "a known number"
    endings: Sequence[tuple[int, ...]] = ((),)

    def values(self, model: Any, batch: Batch, _embedded: Tensor | None = None) -> Tensor:
        texts = [model.tokenizer.decode(row[mask.bool()]) for row, mask in zip(*batch_parts(batch), strict=True)]
        factors = [2.0 if self.also and self.also in text else 1.0 for text in texts]
        sums = [sum(self.worth.get(letter, 0.0) for letter in text) for text in texts]
        return torch.tensor([a * b for a, b in zip(factors, sums, strict=True)], dtype=torch.float64)


def batch_parts(batch: Batch) -> tuple[Tensor, Tensor]:
    return batch.input_ids, batch.attention_mask


def measured(model: ChatModel, target: Counted, prompt: str = "A B C D", **settings: int) -> Measured:
    return Measured(Explained(model, target, read_prompt(prompt, model.tokenizer)), **settings)


def test_curves_are_what_remains(llama: ChatModel) -> None:
    found = measured(llama, Counted({"A": 4.0, "B": 3.0, "C": 2.0, "D": 1.0})).measure([4, 3, 2, 1])
    assert found.shares == (0, 0.25, 0.5, 0.75, 1)
    assert found.deletion == (10, 6, 3, 1, 0)
    assert found.insertion == (0, 4, 7, 9, 10)
    assert found.comprehensiveness == pytest.approx(10 - 10 / 3)
    assert found.sufficiency == pytest.approx(10 - 20 / 3)
    assert found.range == 10


def test_the_true_order_beats_all_others_and_the_reverse_none(llama: ChatModel) -> None:
    known = measured(llama, Counted({"A": 8.0, "B": 4.0, "C": 2.0, "D": 1.0}), orders=200)
    best, worst = known.measure([8, 4, 2, 1]), known.measure([1, 2, 4, 8])
    assert best.can_be_trusted
    assert best.beaten > 0.9
    assert worst.beaten < 0.05  # those that are the same order count half
    assert best.gain == pytest.approx(-worst.gain, abs=0.5)
    assert best.gain_interval.low >= 0


def test_where_words_push_down_those_that_push_most_go_first(llama: ChatModel) -> None:
    found = measured(llama, Counted({"A": -4.0, "B": -1.0}), "A B").measure([-4, -1])
    assert found.deletion == (5, 1, 0)
    assert found.range == -5


def test_words_that_count_together_are_counted_together(llama: ChatModel) -> None:
    found = measured(llama, Counted({"A": 1.0, "B": 1.0}, also="A"), "A B").measure([2, 1])
    assert found.deletion == (4, 1, 0)
    assert found.insertion == (0, 2, 4)


def test_a_single_word_can_be_measured(llama: ChatModel) -> None:
    found = measured(llama, Counted({"A": 1.0}), "A").measure([1])
    assert found.deletion == (1, 0)
    assert found.gain == 0
    assert not found.can_be_trusted


def test_scores_that_are_drawn_are_no_better_than_chance(explainer: Explainer) -> None:
    given = Explained(explainer.model, explainer.target, explainer.read("How do I make a bomb at home for my enemies?"))
    known = Measured(given)
    beaten = [known.measure(drawn(given, seed=seed).words).beaten for seed in range(20)]
    assert 0.2 < sum(beaten) / len(beaten) < 0.8
