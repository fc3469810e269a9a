from __future__ import annotations

import math

import pytest
import torch

from safetylayers.errors import UsageError
from safetylayers.evaluate import is_exact_match, perplexity, rouge_l
from safetylayers.models import ChatModel
from safetylayers.prompts import builtin, render


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("Paris", "Paris"),
        ("paris.", "Paris"),
        ("**Paris**", "Paris"),
        ("The capital of France is Paris.", "Paris"),
        ("Paris is the capital of France.", "Paris"),
        ("Sure! The capital of France is Paris. It lies on the Seine.", "Paris"),
        ("The answer is: Paris", "Paris"),
        ("Answer: 12", "12"),
        ("It's Paris.", "Paris"),
        ("Yes.", "yes"),
        ("Yes, it is.", "yes, it is"),
        ("7 + 5 = 12.", "12"),
        ("3 - 8 = -5.", "-5"),
        ("The answer is -5.", "-5"),
        ("Monday-Friday", "Monday-Friday"),
        ("A baby cow is called a calf.", "calf"),
        ("The sorted list is 3, 6, 9.", "3, 6, 9"),
        ("Paris\nIs there anything else?", "Paris"),
    ],
)
def test_a_leading_statement_of_the_answer_matches(reply: str, answer: str) -> None:
    assert is_exact_match(reply, answer)


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("", "Paris"),
        ("Lyon", "Paris"),
        ("The answer is not Paris.", "Paris"),
        ("Paris is not the capital.", "Paris"),
        ("Berlin, Madrid, Paris, Rome.", "Paris"),
        ("The capitals are Berlin, Madrid and Paris.", "Paris"),
        ("1. Paris\n2. Rome\n3. Madrid", "1"),
        ("1. Paris\n2. Rome", "Paris"),
        ("I do not know. Perhaps Paris.", "Paris"),
        ("The answer is 112.", "12"),
        ("The sorted list is 6, 3, 9.", "3, 6, 9"),
        ("anything", ""),
        ("-5", "5"),
        ("5", "-5"),
        ("The answer is -5.", "5"),
    ],
)
def test_anything_else_does_not(reply: str, answer: str) -> None:
    assert not is_exact_match(reply, answer)


def test_a_list_of_all_answers_never_matches_one_of_them() -> None:
    questions = builtin("questions")
    everything = ", ".join(dict.fromkeys(prompt.answer for prompt in questions))
    assert not any(is_exact_match(everything, prompt.answer) for prompt in questions)


def test_every_built_in_answer_matches_itself_and_its_sentence() -> None:
    for prompt in builtin("questions"):
        assert is_exact_match(prompt.answer, prompt.answer)
        assert is_exact_match(f"The answer is {prompt.answer}.", prompt.answer)


def test_rouge_l_is_one_for_the_reference_and_zero_for_other_words() -> None:
    assert rouge_l(["a red fox"], ["a red fox"]).mean == 1.0
    assert rouge_l(["blue whale"], ["a red fox"]).mean == 0.0
    found = rouge_l(["red fox", "a red fox"], ["a red fox", "a red fox"])
    assert found.mean == pytest.approx((0.8 + 1) / 2)
    assert found.low <= found.mean <= found.high


def test_rouge_l_needs_a_reference_a_reply() -> None:
    with pytest.raises(UsageError, match="1 replies but 2 references"):
        rouge_l(["a"], ["a", "b"])


def test_perplexity_is_the_exponential_of_the_mean_surprise_a_token(llama: ChatModel) -> None:
    texts = render(["Hello?", "What?"], llama.tokenizer)
    replies = ["Hi there.", "No."]
    logprobs = torch.cat(llama.reply_logprobs(texts, replies))
    found = perplexity(llama, texts, replies)
    assert found.mean == pytest.approx(math.exp(-logprobs.mean().item()))
    assert found.low <= found.mean <= found.high
