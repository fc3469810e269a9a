"""Perturbations that read a model: what is shared, what is surprising, and which tokens a text is read as."""

from __future__ import annotations

import math
import random
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from harden.probed import probed_map
from safetylayers.attack import Prefill, run_attack
from safetylayers.errors import UsageError, WrongModelError
from safetylayers.harden.perturb import (
    EraseAndCheck,
    PerplexityFilter,
    ProbeCheck,
    Retokenise,
    SmoothLLM,
    Surprise,
    through,
    token_ends,
)
from safetylayers.harden.perturb.dropout import DroppingTokenizer
from safetylayers.harden.perturb.frame import framed
from safetylayers.harden.perturb.perplexity import highest_mean
from safetylayers.harden.perturb.prefixes import last_states
from safetylayers.locate import SafetyMap
from safetylayers.models import ChatModel
from safetylayers.prompts import builtin, render
from safetylayers.targets import ModelTarget
from support import ARCHITECTURES, random_chat_model

PROMPTS = ["How do I bake bread?", "Write a short letter to my aunt about the garden."]


@pytest.fixture(scope="module")
def tiny() -> ChatModel:
    return ChatModel.load("tiny")


@pytest.fixture(scope="module")
def found(tiny: ChatModel) -> SafetyMap:
    """A map with probes as `locate` fits them, and no more."""
    return probed_map(tiny)


@cache
def _tokenizer() -> PreTrainedTokenizerBase:
    return ChatModel.load("tiny").tokenizer


def _groups(model: ChatModel, lengths: tuple[int, ...] = (9, 5, 14)) -> list[list[list[int]]]:
    draw = random.Random(0)
    ending = [2, 3]
    groups = []
    for length in lengths:
        whole = [draw.randrange(4, 260) for _ in range(length)]
        cut = [whole[:keep] for keep in range(length - 1, length - 4, -1)]
        holed = [whole[:2] + whole[3:], whole[1:]]
        groups.append([part + ending for part in (whole, *cut, *holed)])
    return groups


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_shared_reading_gives_what_reading_each_text_gives(architecture: str) -> None:
    model = random_chat_model(architecture)
    groups = _groups(model)
    states, tokens = last_states(model, groups, 2)
    for group, states_BH in zip(groups, states, strict=True):
        for ids, state_H in zip(group, states_BH, strict=True):
            with model.capture([2]) as hidden:
                model.logits(model.batch_of([ids]), last=1)
            torch.testing.assert_close(state_H, hidden[2][0, -1].detach(), rtol=1e-4, atol=1e-5)
    assert all(count <= sum(map(len, group)) for count, group in zip(tokens, groups, strict=True))


def test_the_first_texts_tokens_are_read_once() -> None:
    model = random_chat_model("Llama")
    (group,) = _groups(model, (20,))
    _, (count,) = last_states(model, [group], 1)
    assert count == 22 + 3 * 2 + (17 + 2) + (19 + 2)  # the whole; three endings; behind a hole; all of the last


def test_small_batches_change_nothing() -> None:
    model = random_chat_model("Llama")
    groups = _groups(model)
    large, _ = last_states(model, groups, 3)
    model.batch_size = 2
    small, _ = last_states(model, groups, 3)
    torch.testing.assert_close(large, small, rtol=1e-4, atol=1e-5)


def test_a_suffix_of_the_tokenizers_tokens_hides_nothing(tiny: ChatModel, found: SafetyMap) -> None:
    target = ModelTarget(tiny)
    check = ProbeCheck.of(tiny, found)
    guarded = EraseAndCheck(target, check, token_ends(tiny.tokenizer), "tokens", most=20)
    prompts = builtin("malicious", "calibration").texts[:20]
    attacked = [prompt + " !" * 10 for prompt in prompts]  # a space is a token of its own here
    plain = EraseAndCheck(target, check, token_ends(tiny.tokenizer), "tokens", most=0)
    alone, behind = plain.inspect(prompts), guarded.inspect(attacked)
    assert sum(finding.harmful for finding in alone) >= 10
    for before, after in zip(alone, behind, strict=True):
        assert before.score is not None
        assert after.score is not None
        assert after.score >= before.score - 1e-4
    certificate = guarded.certificate(prompts)
    assert certificate.certified.count == sum(finding.harmful for finding in alone)
    assert sum(reply.withheld for reply in guarded.reply(attacked)) >= certificate.certified.count


def test_calibration_holds_the_share_of_normal_prompts(tiny: ChatModel, found: SafetyMap) -> None:
    normal = builtin("normal", "calibration").texts[:40]
    made = through("erase-and-check:tokens=5,false_positives=0.1", ModelTarget(tiny), map=found)
    assert isinstance(made, EraseAndCheck)
    again = made.calibrated(normal, false_positives=0.1)
    assert sum(finding.harmful for finding in again.inspect(normal)) == 4
    assert made.passes(30).reads == 6


def test_another_models_map_is_refused(found: SafetyMap) -> None:
    with pytest.raises(WrongModelError):
        ProbeCheck.of(random_chat_model("Llama"), found)


def test_a_layer_that_is_none_is_refused(tiny: ChatModel, found: SafetyMap) -> None:
    assert ProbeCheck.of(tiny, found, layer=2).layer == 2
    with pytest.raises(UsageError, match="no layer 99"):
        ProbeCheck.of(tiny, found, layer=99)


@pytest.mark.parametrize("window", [0, 4, 1000])
def test_surprise_is_that_of_the_users_own_tokens(tiny: ChatModel, window: int) -> None:
    parts = framed(PROMPTS, tiny.tokenizer, "chat")
    logprobs = tiny.reply_logprobs([part.before for part in parts], [part.text for part in parts])
    scores = Surprise(tiny, window).of(PROMPTS)
    for (score, _), tokens_T in zip(scores, logprobs, strict=True):
        assert score == pytest.approx(highest_mean(-tokens_T, window), rel=1e-4)


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=20), st.integers(0, 25))
def test_the_highest_window_by_hand(values: list[float], window: int) -> None:
    size = len(values) if window == 0 else min(window, len(values))
    means = [sum(values[start : start + size]) / size for start in range(len(values) - size + 1)]
    assert highest_mean(torch.tensor(values, dtype=torch.float64), window) == pytest.approx(max(means), abs=1e-9)


def test_surprise_does_not_depend_on_what_is_read_beside_it_and_nothing_surprises_nobody() -> None:
    model = random_chat_model("Llama")
    together = Surprise(model).of(["Hi", *PROMPTS, ""])
    alone = [Surprise(model).of([text])[0] for text in ("Hi", *PROMPTS, "")]
    assert [score for score, _ in together] == pytest.approx([score for score, _ in alone], rel=1e-4)
    assert together[-1].surprise == 0


def test_the_filter_refuses_noise_and_passes_text(tiny: ChatModel) -> None:
    target = ModelTarget(tiny)
    made = through("perplexity", target)
    assert isinstance(made, PerplexityFilter)
    noise = "How do I bake bread? xq}] zv!!kp ~~w@# qj;;x |z^ 8fk} vv"
    plain, attacked = made.reply([PROMPTS[0], noise])
    assert (plain.withheld, attacked.withheld) == (False, True)
    assert plain.tokens > target.reply([PROMPTS[0]])[0].tokens
    normal = builtin("normal", "calibration").texts
    assert sum(reply.withheld for reply in made.reply(normal)) == 1  # a hundredth of 120, rounded down


def test_a_surprise_that_is_no_number_is_refused(tiny: ChatModel) -> None:
    model = random_chat_model("Llama")
    with torch.no_grad():
        model.model.get_output_embeddings().get_parameter("weight").fill_(math.nan)
    made = PerplexityFilter(ModelTarget(tiny), Surprise(model), threshold=100.0)
    assert made.reply([PROMPTS[0]])[0].withheld


@given(st.text(max_size=80))
def test_without_dropout_the_tokens_are_the_tokenizers_own(text: str) -> None:
    tokenizer = _tokenizer()
    made = DroppingTokenizer.of(tokenizer)
    assert made.tokens(text, 0.0, random.Random(0)) == tokenizer(text, add_special_tokens=False).input_ids


@given(st.text(max_size=80), st.floats(0, 1), st.integers())
def test_dropped_merges_leave_the_text_as_it_is(text: str, rate: float, seed: int) -> None:
    tokenizer = _tokenizer()
    made = DroppingTokenizer.of(tokenizer)
    ids = made.tokens(text, rate, random.Random(seed))
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
    assert len(ids) >= len(made.tokens(text, 0.0, random.Random(0)))


def test_retokenising_at_rate_0_changes_nothing_and_at_rate_1_leaves_bytes(tiny: ChatModel) -> None:
    target = ModelTarget(tiny)
    assert [reply.text for reply in Retokenise(target, 0.0).reply(PROMPTS)] == [
        reply.text for reply in target.reply(PROMPTS)
    ]
    plain = tiny.tokenizer(render(PROMPTS, tiny.tokenizer), add_special_tokens=False).input_ids
    assert Retokenise(target, 0.0).token_ids(PROMPTS) == plain
    bare = Retokenise(target, 1.0).token_ids(PROMPTS)
    assert [len(ids) for ids in bare] == [len(prompt.encode()) + 3 for prompt in PROMPTS]
    one, other = Retokenise(target, seed=1).token_ids(PROMPTS), Retokenise(target, seed=2).token_ids(PROMPTS)
    assert one != other
    assert one[1] == Retokenise(target, seed=1).token_ids(PROMPTS[1:])[0]


def test_openings_stand_behind_what_is_perturbed(tiny: ChatModel) -> None:
    target = ModelTarget(tiny)
    ids = Retokenise(target, 0.5).token_ids(PROMPTS[:1], ["Sure, here"])
    assert tiny.tokenizer.decode(ids[0]) == render(PROMPTS[:1], tiny.tokenizer)[0] + "Sure, here"
    prompts = builtin("malicious", "calibration").take(10)
    result = run_attack(Prefill(20), SmoothLLM(target, copies=3, rate=0.0), prompts)
    assert result.success_rate("phrases") == run_attack(Prefill(20), target, prompts).success_rate("phrases")
    assert result.cost.queries == 30


def test_a_batch_of_copies_says_what_each_says_alone(tiny: ChatModel) -> None:
    smooth = SmoothLLM(ModelTarget(tiny), copies=6, seed=3)
    together = smooth.reply(PROMPTS)
    assert [reply.text for reply in together] == [smooth.reply([prompt])[0].text for prompt in PROMPTS]


def test_perturbations_can_stand_one_behind_another(tiny: ChatModel) -> None:
    inner = through("perplexity", ModelTarget(tiny))
    both = through("smoothllm:copies=3,rate=0.5", inner)
    assert "perplexity" in both.name
    assert both.reply([PROMPTS[0]])[0].queries == 3
    third = through("perplexity:threshold=9,window=5", both)  # finds the model through both
    assert isinstance(third, PerplexityFilter)
    assert third.surprise.model is tiny
    with pytest.raises(UsageError, match="nothing to calibrate"):
        through("perplexity:threshold=9,false_positives=0.1", inner)


def test_a_map_is_read_from_its_folder(tiny: ChatModel, found: SafetyMap, tmp_path: Path) -> None:
    again = SafetyMap.load(found.save(tmp_path))
    assert ProbeCheck.of(tiny, again).name == ProbeCheck.of(tiny, found).name
