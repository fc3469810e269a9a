"""The number that is explained."""

from __future__ import annotations

import pytest
import torch

from safetylayers.errors import UsageError
from safetylayers.evaluate.log_odds import refusal_log_odds
from safetylayers.explain.target import Projection, RefusalOdds, embed, values_of, values_of_embedded
from safetylayers.explain.tokens import read_prompt
from safetylayers.models import ChatModel
from safetylayers.prompts import render
from support import ARCHITECTURES, TEXTS, random_chat_model

OPENINGS = ("I'm sorry", "I can", "No")


def test_an_opening_that_begins_another_is_refused() -> None:
    with pytest.raises(UsageError, match="begins another"):
        RefusalOdds(((1, 2), (1, 2, 3)))
    with pytest.raises(UsageError, match="no opening"):
        RefusalOdds(())


def test_openings_that_share_their_beginning_share_a_row() -> None:
    assert RefusalOdds(((1, 2, 3), (1, 4), (5,))).endings == ((1, 2),)
    assert RefusalOdds(((1,), (5,))).endings == ((),)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_value_is_the_evaluations_whether_tokens_or_embeddings_are_read(architecture: str) -> None:
    model = random_chat_model(architecture)
    target = RefusalOdds.of(model, OPENINGS)
    readings = [read_prompt(text, model.tokenizer) for text in TEXTS]
    values_N = values_of(target, model, [reading.token_ids for reading in readings])
    expected_N = refusal_log_odds(model, render(TEXTS, model.tokenizer), OPENINGS)
    torch.testing.assert_close(values_N, expected_N, atol=1e-4, rtol=1e-4)
    for reading, value in zip(readings, values_N, strict=True):
        with torch.no_grad():
            twice_N = values_of_embedded(target, model, embed(model, reading.token_ids).expand(2, -1, -1))
        torch.testing.assert_close(twice_N, value.expand(2), atol=1e-4, rtol=1e-4)


def test_the_projection_is_that_of_the_hidden_states(llama: ChatModel) -> None:
    directions = {1: torch.randn(32), 2: torch.randn(32)}
    texts = render(TEXTS, llama.tokenizer)
    states_NL1H = llama.hidden_states(texts, layers=(1, 2), positions=(-2,))
    expected_N = (states_NL1H[:, 0, 0] @ directions[1] + states_NL1H[:, 1, 0] @ directions[2]) / 2
    tokens = [read_prompt(text, llama.tokenizer).token_ids for text in TEXTS]
    found_N = values_of(Projection(directions, position=-2), llama, tokens)
    torch.testing.assert_close(found_N.float(), expected_N, atol=1e-4, rtol=1e-4)
