"""Counting refusals: the fast way and the paper's way see the same model."""

from __future__ import annotations

import numpy as np
import torch

from safetylayers.evaluate.log_odds import log_odds
from safetylayers.locate.refusals import OddsCounter, calibrate
from safetylayers.prompts import builtin
from support import random_chat_model


def test_candidates_run_together_as_they_do_alone() -> None:
    model = random_chat_model("Llama")
    texts = builtin("borderline", "test").texts[:7]
    model.batch_size = 9
    counter = OddsCounter(model, texts, ["Su", "No"], threshold=0.0)
    candidates = [(1, 2), (2, 2), (1, 3)]
    counter.log_odds(candidates, 1.1)  # what it keeps from one alpha to the next must not matter
    together = counter.log_odds(candidates, 1.3)
    for row, (first, last) in enumerate(candidates):
        with model.scale(1.3, first, last):
            alone = log_odds(torch.logsumexp(model.opening_logprobs(texts, ["Su", "No"]), dim=1))
        torch.testing.assert_close(together[row], alone, rtol=1e-4, atol=1e-4)


def test_a_candidate_from_the_first_layer_on_has_nothing_to_skip() -> None:
    model = random_chat_model("Llama")
    counter = OddsCounter(model, ["Hello", "Hello there"], ["Su"], threshold=0.0)
    with model.scale(1.2, 0, 1):
        alone = log_odds(model.opening_logprobs(["Hello", "Hello there"], ["Su"])[:, 0])
    torch.testing.assert_close(counter.log_odds([(0, 1)], 1.2)[0], alone, rtol=1e-4, atol=1e-4)


def test_the_threshold_parts_refusals_from_the_rest() -> None:
    odds = torch.tensor([-5.0, -4.0, 2.0, 3.0], dtype=torch.float64)
    assert -4 < calibrate(odds, np.array([False, False, True, True])) < 2
    assert calibrate(odds, np.array([False] * 4)) > 3
    assert calibrate(odds, np.array([True] * 4)) < -5
