from __future__ import annotations

import math

import pytest
import torch

from safetylayers.errors import UsageError
from safetylayers.evaluate import discriminating_openings, refusal_log_odds
from safetylayers.evaluate.log_odds import log_odds
from safetylayers.models import ChatModel
from safetylayers.prompts import render


def test_log_odds_of_one_half_is_zero_and_of_one_is_finite() -> None:
    found = log_odds(torch.tensor([math.log(0.5), math.log(0.9), 0.0, 1e-9], dtype=torch.float64))
    assert found[:2].tolist() == pytest.approx([0.0, math.log(9)])
    assert bool(found.isfinite().all())
    assert found[2] == found[3]


def test_the_probabilities_of_the_openings_add_up(llama: ChatModel) -> None:
    texts = render(["Hello?", "What is the capital of France?"], llama.tokenizer)
    probabilities = llama.next_token_logits(llama.tokenize(texts)).double().softmax(-1)
    tokens = [llama.tokenizer(letter, add_special_tokens=False).input_ids[0] for letter in "IS"]
    expected = probabilities[:, tokens].sum(dim=1).logit()
    assert refusal_log_odds(llama, texts, ["I", "S"]).tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_an_opening_that_begins_another_is_refused(llama: ChatModel) -> None:
    with pytest.raises(UsageError, match="begins another"):
        refusal_log_odds(llama, ["x"], ["I'm sorry", "I'm sorry, but"])


def test_openings_are_the_shortest_that_only_refusals_have(llama: ChatModel) -> None:
    replies = ["I cannot.", "I cannot do it.", "No.", "I can.", "Sure."]
    found = discriminating_openings(llama, replies, [True, True, True, False, False])
    assert found == ("I cann", "N")
    assert discriminating_openings(llama, replies, [False] * 5) == ()
