"""Scores of tokens and words, held against Captum's where it has the same method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from safetylayers.errors import UsageError
from safetylayers.explain import Explainer
from safetylayers.explain.held import gates_held, held, norms_held
from safetylayers.explain.saliency import (
    METHODS,
    Explained,
    gradient,
    held_gradient,
    integrated,
    mean_embedding,
    occlusion,
)
from safetylayers.explain.target import RefusalOdds, embed, values_of, values_of_embedded
from safetylayers.explain.tokens import read_prompt
from safetylayers.models import ChatModel
from safetylayers.prompts import builtin
from support import ARCHITECTURES, TEXTS, random_chat_model

PROMPT = "Explain how rain forms."


def explained(model: ChatModel, prompt: str = PROMPT) -> Explained:
    return Explained(model, RefusalOdds.of(model, ("I'm sorry", "No")), read_prompt(prompt, model.tokenizer))


def forward(given: Explained) -> Callable[[Tensor], Tensor]:
    return lambda embedded_NTH: values_of_embedded(given.target, given.model, embedded_NTH)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_method_scores_the_users_tokens_alone(architecture: str, method: str) -> None:
    given = explained(random_chat_model(architecture))
    found = METHODS[method](given)
    assert found.method == method
    assert len(found.words) == 4
    template = [score for place, score in enumerate(found.tokens) if not given.own.start <= place < given.own.stop]
    assert set(template) == {0.0}
    assert any(found.words)


@pytest.mark.parametrize("steps", [1, 5, 20])
def test_integrated_gradients_are_captums(tiny: ChatModel, steps: int) -> None:
    attr = pytest.importorskip("captum.attr", reason="the extra 'captum' is not installed")

    given = explained(tiny)
    here_TH, baseline_TH = given.embedded()
    theirs = attr.IntegratedGradients(forward(given)).attribute(
        here_TH[None], baselines=baseline_TH[None], n_steps=steps, method="gausslegendre"
    )
    found = torch.tensor(integrated(given, steps=steps).tokens)
    torch.testing.assert_close(found, theirs[0].sum(-1).detach().float(), atol=1e-4, rtol=1e-4)


def test_gradients_are_captums(tiny: ChatModel) -> None:
    attr = pytest.importorskip("captum.attr", reason="the extra 'captum' is not installed")

    given = explained(tiny)
    here = embed(tiny, given.reading.token_ids)[None].requires_grad_()
    theirs = attr.InputXGradient(forward(given)).attribute(here)[0].sum(-1).detach().float()
    torch.testing.assert_close(torch.tensor(gradient(given).tokens[given.own]), theirs[given.own], atol=1e-4, rtol=1e-4)


def test_integrated_gradients_add_up_to_what_the_prompt_does(explainer: Explainer) -> None:
    prompts = [*builtin("malicious", "calibration").take(10), *builtin("normal", "calibration").take(10)]
    for prompt in prompts:
        given = Explained(explainer.model, explainer.target, explainer.read(prompt.text))
        found = integrated(given)
        assert found.completeness_gap is not None
        assert found.completeness_gap < 0.02
        with torch.no_grad():
            value, empty = forward(given)(torch.stack(given.embedded())).tolist()
        assert sum(found.tokens) == pytest.approx(value - empty, rel=0.02)


def test_no_steps_make_no_sense(llama: ChatModel) -> None:
    with pytest.raises(UsageError, match="0 steps"):
        integrated(explained(llama), steps=0)


def test_occlusion_is_what_the_prompt_is_worth_without_each_word(llama: ChatModel) -> None:
    given = explained(llama, "a bc d")
    reading = given.reading
    whole, *parts = values_of(
        given.target, llama, [reading.token_ids, *(reading.without([n]) for n in range(3))]
    ).tolist()
    assert occlusion(given).words == pytest.approx([whole - part for part in parts])


def test_where_the_value_is_linear_scores_are_its_terms(llama: ChatModel) -> None:
    given = explained(llama)
    linear = torch.randn(len(given.reading.token_ids), llama.hidden_size, dtype=torch.float64)

    class Linear:
        name, endings = "linear", ((),)

        def values(self, _model: Any, _batch: Any, embedded: Tensor | None = None) -> Tensor:
            assert embedded is not None
            return (embedded.double() * linear).sum((1, 2))

    straight = Explained(llama, Linear(), given.reading)
    here_TH, baseline_TH = straight.embedded()
    expected_T = ((here_TH - baseline_TH).double() * linear).sum(-1)
    assert integrated(straight, steps=3).tokens == pytest.approx(expected_T.tolist(), rel=1e-4, abs=1e-6)
    own_T = (here_TH.double() * linear).sum(-1)[straight.own]
    assert gradient(straight).tokens[straight.own] == pytest.approx(own_T.tolist(), rel=1e-4, abs=1e-6)
    assert held_gradient(straight).tokens == pytest.approx(gradient(straight).tokens)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_holding_leaves_the_value_as_it_is_and_changes_its_gradient(architecture: str) -> None:
    model = random_chat_model(architecture)
    given = explained(model, TEXTS[0])
    embedded = embed(model, given.reading.token_ids)[None].requires_grad_()
    plain = forward(given)(embedded)
    with norms_held(model):
        scales = forward(given)(embedded)
    with held(model):
        both = forward(given)(embedded)
    assert torch.equal(plain, scales)
    assert torch.equal(plain, both)
    gradients = [torch.autograd.grad(value.sum(), embedded)[0] for value in (plain, scales, both)]
    assert not torch.allclose(gradients[0], gradients[1])
    assert not torch.allclose(gradients[1], gradients[2])
    assert torch.equal(forward(given)(embedded), plain)
    assert not any(module._forward_hooks for module in model.model.modules())


def test_a_held_norm_is_linear_in_its_input() -> None:
    for norm in (torch.nn.LayerNorm(8), torch.nn.RMSNorm(8)):
        with torch.no_grad():
            norm.weight.copy_(torch.randn(8))
        wrapped = type("Wrapped", (), {"model": torch.nn.Sequential(norm)})()
        x = torch.randn(3, 8, requires_grad=True)
        with norms_held(wrapped):
            out = wrapped.model(x)
        direction = torch.randn(3, 8)
        (grad,) = torch.autograd.grad((out * direction).sum(), x)
        bias = getattr(norm, "bias", None)
        rest = (out - bias if bias is not None else out).detach()
        # What is linear is its own gradient's product with its input.
        assert float((grad * x).detach().sum()) == pytest.approx(float((rest * direction).sum()), rel=1e-4)


@pytest.mark.parametrize("architecture", ["Llama", "Qwen2", "Qwen3", "Mistral", "Phi3", "Olmo2"])
def test_a_held_model_without_biases_is_linear_and_its_scores_add_up_to_the_logit(architecture: str) -> None:
    model = random_chat_model(architecture)
    for name, parameter in model.model.named_parameters():
        if name.endswith("bias"):
            parameter.data.zero_()
    given = explained(model)

    class Logit:
        name, endings = "a logit", ((),)

        def values(self, read: ChatModel, batch: Any, embedded: Tensor | None = None) -> Tensor:
            return read.logits(batch, last=1, embedded=embedded)[:, -1, 7].double()

    leaf = embed(model, given.reading.token_ids)[None].requires_grad_()
    with held(model):
        value = values_of_embedded(Logit(), model, leaf)
    (grad,) = torch.autograd.grad(value.sum(), leaf)
    assert float((grad * leaf).detach().sum()) == pytest.approx(value.item(), rel=1e-3, abs=1e-4)


def test_gates_of_gated_mlps_are_held_and_plain_ones_are_not() -> None:
    for architecture, gated in (("Llama", True), ("Phi3", True), ("Mixtral", True), ("GPTNeoX", False)):
        model = random_chat_model(architecture)
        with gates_held(model):
            hooked = [module for module in model.model.modules() if module._forward_hooks]
        assert bool(hooked) == gated
        assert not any(module._forward_hooks for module in model.model.modules())


def test_the_mean_embedding_is_over_the_whole_vocabulary(llama: ChatModel) -> None:
    weight = llama.model.get_input_embeddings().get_parameter("weight")
    torch.testing.assert_close(mean_embedding(llama), weight.detach().mean(0), atol=1e-6, rtol=1e-5)
