"""Draws follow the model's probabilities, by a seed a reply, however replies are batched."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import chisquare

from safetylayers.attach import GuardedModel
from safetylayers.errors import UsageError
from safetylayers.models import ChatModel
from safetylayers.models.generation import GumbelNoise, until_end
from support import TEXTS, random_chat_model, safety_layers

MANY = [text * times for times in (1, 2, 3) for text in TEXTS]


def in_batches_of(model: ChatModel, size: int) -> ChatModel:
    return ChatModel(model.model, model.tokenizer, batch_size=size)


def test_one_seed_draws_the_same_replies_in_any_batches(llama: ChatModel) -> None:
    drawn = [in_batches_of(llama, size).sample(MANY, max_new_tokens=8, seed=5) for size in (1, 4, 64)]
    assert drawn[0] == drawn[1] == drawn[2]
    assert llama.sample(MANY, max_new_tokens=8, seed=6) != drawn[0]


def test_every_reply_has_noise_of_its_own_and_torchs_own_seed_has_no_part_in_it(llama: ChatModel) -> None:
    state = torch.random.get_rng_state()
    drawn = llama.sample(["Hello"] * 20, max_new_tokens=8)
    assert len(set(drawn)) > 15
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
def test_frequencies_are_the_models_probabilities(temperature: float) -> None:
    model = random_chat_model("Llama")
    logits_V = model.next_token_logits(model.tokenize(["Hello"]))[0].double()
    expected_V = 3000 * (logits_V / temperature).softmax(-1)
    drawn = model.sample_tokens(["Hello"] * 3000, max_new_tokens=1, temperature=temperature, seed=1)
    counts_V = torch.bincount(torch.tensor(drawn)[:, 0], minlength=len(expected_V)).double()
    # The statistic is chi-squared where counts are not tiny: rare tokens go together.
    bin_V = torch.where(expected_V >= 5, torch.arange(len(expected_V)), len(expected_V))
    observed, wanted = (torch.bincount(bin_V, each_V) for each_V in (counts_V, expected_V))
    assert (wanted > 0).sum() > 20
    assert chisquare(observed[wanted > 0], wanted[wanted > 0]).pvalue > 0.01


def test_noise_draws_what_is_rare_as_rarely_as_it_should_and_never_what_is_ruled_out() -> None:
    probabilities_V = torch.tensor([0.9, 0.099, 0.001, 0.0], dtype=torch.float64)
    noise = GumbelNoise([str(row) for row in range(20_000)], 1.0)
    chosen_B = noise(torch.zeros(0), probabilities_V.log().expand(20_000, -1)).argmax(dim=1)
    counts_V = torch.bincount(chosen_B, minlength=4)
    assert counts_V[3] == 0
    assert chisquare(counts_V[:3].double(), 20_000 * probabilities_V[:3]).pvalue > 0.01


def test_near_temperature_0_it_is_greedy_generation(llama: ChatModel) -> None:
    assert llama.sample(MANY, max_new_tokens=8, temperature=1e-6) == llama.generate(MANY, max_new_tokens=8)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_a_temperature_that_makes_no_sense_is_refused(llama: ChatModel, temperature: float) -> None:
    with pytest.raises(UsageError, match="makes no sense"):
        llama.sample(["Hello"], temperature=temperature)


def test_a_reply_ends_where_it_is_told_to(llama: ChatModel) -> None:
    free = llama.sample_tokens(MANY, max_new_tokens=8, ends=())
    assert {len(tokens) for tokens in free} == {8}
    end = free[0][3]
    ended = llama.sample_tokens(MANY, max_new_tokens=8, ends=(end,))
    assert ended == [until_end(tokens, {end}) for tokens in free]
    assert ended[0][-1] == end


def test_what_comes_after_an_end_is_left_out() -> None:
    assert until_end([5, 6, 7, 6, 7], {7, 8}) == [5, 6, 7]
    assert until_end([5, 6], {7}) == [5, 6]


def test_a_guarded_model_draws_with_its_layers_on_and_in_any_batches(llama: ChatModel) -> None:
    layers = safety_layers(llama, threshold=-100.0)
    guarded = GuardedModel(llama, layers)
    drawn = guarded.sample(MANY, max_new_tokens=8)
    assert drawn != llama.sample(MANY, max_new_tokens=8)
    assert drawn == GuardedModel(in_batches_of(llama, 2), layers).sample(MANY, max_new_tokens=8)
    assert guarded.sample(MANY, max_new_tokens=8, temperature=1e-6) == guarded.generate(MANY, max_new_tokens=8)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda_one_seed_draws_the_same_replies_in_any_batches() -> None:
    model = random_chat_model("Llama")
    model.model.to("cuda")
    drawn = [in_batches_of(model, size).sample(MANY, max_new_tokens=8, seed=5) for size in (1, 64)]
    assert drawn[0] == drawn[1]
    assert model.sample(MANY, max_new_tokens=8, seed=6) != drawn[0]
