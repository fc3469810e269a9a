"""What must hold while safety layers are on, for every architecture that the project names."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import GenerationConfig

from safetylayers.attach import SafetyLayers, TokenTrace, attach
from safetylayers.errors import LayersError, UsageError, WrongModelError
from safetylayers.models import ChatModel
from safetylayers.prompts import render
from support import ARCHITECTURES, random_chat_model, random_model, safety_layers

EVERY = pytest.mark.parametrize("architecture", ARCHITECTURES)
ASKED = ["What is the capital of France?", "Hi", "Explain how rain forms, please."]
NEVER, ALWAYS = 1e6, -1e6
MIXTURES = ("Llama4", "Qwen3Moe", "Mixtral", "GptOss")


def logits(model: ChatModel, texts: list[str]) -> Tensor:
    """Logits at every position, from one batch."""
    batch = model.tokenize(render(texts, model.tokenizer))
    with torch.no_grad():
        found: Tensor = model.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    return found


def tokens(model: ChatModel, texts: list[str], **options: object) -> Tensor:
    """Twelve generated tokens a row; none of them ends the text, so that all rows stay comparable."""
    batch = model.tokenize(render(texts, model.tokenizer))
    given = {"max_new_tokens": 12, "min_new_tokens": 12, "do_sample": False, "pad_token_id": 0, "eos_token_id": 3}
    config = GenerationConfig(**{**given, **options})
    output: Tensor = model.model.generate(
        input_ids=batch.input_ids, attention_mask=batch.attention_mask, generation_config=config
    )
    return output[:, batch.input_ids.shape[1] :]


def assert_alike(architecture: str, one: Tensor, other: Tensor) -> None:
    """Bitwise, but in mixtures of experts, where a row's last bits depend on the others in the bare model as well."""
    if architecture in MIXTURES:
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    else:
        assert torch.equal(one, other)


def middling(model: ChatModel, **settings: object) -> SafetyLayers:
    """Layers whose gate opens for some of the rows and not for others."""
    seen: list[TokenTrace] = []
    with attach(model, safety_layers(model, threshold=NEVER, **settings), trace=seen.extend):
        logits(model, ASKED)
    scores = sorted(sum(t.scores["harm"]) / len(t.scores["harm"]) for t in seen if t.kind == "prompt end")
    return safety_layers(model, threshold=(scores[1] + scores[2]) / 2, **settings)


@EVERY
def test_a_closed_gate_leaves_every_logit_bitwise_as_it_was(architecture: str) -> None:
    model = random_chat_model(architecture)
    before, replies = logits(model, ASKED), tokens(model, ASKED)
    with attach(model, safety_layers(model, threshold=NEVER)):
        assert torch.equal(logits(model, ASKED), before)
        assert torch.equal(tokens(model, ASKED), replies)


@EVERY
def test_an_open_gate_changes_its_own_rows_and_leaves_the_others_bitwise_as_they_were(architecture: str) -> None:
    model = random_chat_model(architecture)
    before = logits(model, ASKED)
    seen: list[TokenTrace] = []
    with attach(model, middling(model), trace=seen.extend):
        after = logits(model, ASKED)
    changed = {trace.row for trace in seen if trace.open}
    assert len(changed) == 1
    for row in range(3):
        if row in changed:
            assert not torch.allclose(after[row], before[row])
        else:
            assert_alike(architecture, after[row], before[row])


@EVERY
def test_what_stands_in_one_row_does_not_reach_another(architecture: str) -> None:
    model = random_chat_model(architecture)
    with attach(model, middling(model)):
        one = logits(model, ASKED)
        other = logits(model, ["Where is the moon in the sky.", *ASKED[1:]])
    assert one.shape == other.shape
    assert_alike(architecture, one[1:], other[1:])


@EVERY
def test_generating_with_and_without_a_cache_agrees(architecture: str) -> None:
    model = random_chat_model(architecture)
    with attach(model, middling(model)):
        assert torch.equal(tokens(model, ASKED, use_cache=True), tokens(model, ASKED, use_cache=False))


@EVERY
def test_saved_and_loaded_layers_act_alike_and_detaching_leaves_no_trace(architecture: str, tmp_path: Path) -> None:
    model = random_chat_model(architecture)
    hooks = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.model.modules())
    before, weights = logits(model, ASKED), model.fresh_weights_hash()
    layers = middling(model)
    with attach(model, layers):
        expected = logits(model, ASKED)
    layers.save(tmp_path)
    attached = attach(model, tmp_path)
    assert torch.equal(logits(model, ASKED), expected)
    attached.detach()
    assert torch.equal(logits(model, ASKED), before)
    assert model.fresh_weights_hash() == weights
    assert sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.model.modules()) == hooks


@pytest.mark.parametrize("settings", [{"pools": 0}, {"pools": 3}, {"width": 8}, {"rank": 0}, {"layers": (3,)}])
def test_every_form_of_heads_and_correction_agrees_with_and_without_a_cache(settings: dict[str, object]) -> None:
    model = random_chat_model("Llama")
    with attach(model, middling(model, **settings)):
        assert torch.equal(tokens(model, ASKED, use_cache=True), tokens(model, ASKED, use_cache=False))


def test_beams_keep_the_state_of_the_row_they_go_on_from() -> None:
    model = random_chat_model("Llama")
    with attach(model, middling(model)):
        cached = tokens(model, ASKED, num_beams=4, use_cache=True)
        plain = tokens(model, ASKED, num_beams=4, use_cache=False)
    assert torch.equal(cached, plain)


def test_a_guess_that_is_taken_back_is_taken_back_in_the_gate_as_well() -> None:
    model = random_chat_model("Llama")
    asked = ["aa aa aa aa aa aa aa"]
    with attach(model, safety_layers(model, threshold=ALWAYS)):
        expected = tokens(model, asked)
        assert torch.equal(tokens(model, asked, prompt_lookup_num_tokens=3), expected)


def test_a_static_cache_with_its_own_kind_of_mask_hides_padding_from_the_gate() -> None:
    model = random_chat_model("Llama")
    with attach(model, middling(model)):
        expected = tokens(model, ASKED)
        assert torch.equal(tokens(model, ASKED, cache_implementation="static"), expected)


def test_a_cache_that_others_filled_is_refused() -> None:
    from transformers import DynamicCache

    model = random_chat_model("Llama")
    batch = model.tokenize(render(ASKED[:1], model.tokenizer))
    cache = DynamicCache(config=model.model.config)
    model.model(input_ids=batch.input_ids, past_key_values=cache)
    with attach(model, safety_layers(model)), pytest.raises(UsageError, match="have not read"):
        model.model(input_ids=torch.tensor([[5]]), past_key_values=cache)


def test_a_cache_whose_rows_were_repeated_by_hand_is_refused_and_the_proper_way_works() -> None:
    from transformers import DynamicCache

    model = random_chat_model("Llama")
    batch = model.tokenize(render(ASKED[:1], model.tokenizer))
    with attach(model, safety_layers(model)):
        cache = DynamicCache(config=model.model.config)
        model.model(input_ids=batch.input_ids, past_key_values=cache)
        cache.batch_repeat_interleave(2)
        model.model(input_ids=torch.tensor([[5], [6]]), past_key_values=cache)
        for layer in cache.layers[:-1]:
            layer.batch_repeat_interleave(2)
        with pytest.raises(UsageError, match="filled by 2 rows and is used for 4"):
            model.model(input_ids=torch.tensor([[5]] * 4), past_key_values=cache)


def test_outputs_without_names_keep_the_state_as_well() -> None:
    model = random_chat_model("Llama")
    batch = model.tokenize(render(ASKED[:1], model.tokenizer))
    with attach(model, middling(model)):
        named = model.model(input_ids=batch.input_ids).past_key_values
        plain = model.model(input_ids=batch.input_ids, return_dict=False)[1]
        one = model.model(input_ids=torch.tensor([[5]]), past_key_values=named).logits
        other = model.model(input_ids=torch.tensor([[5]]), past_key_values=plain, return_dict=False)[0]
    assert torch.equal(one, other)


def test_states_that_are_no_numbers_open_the_gate() -> None:
    model = random_chat_model("Llama")
    with torch.no_grad():
        model.layers[0].mlp.down_proj.weight[0, 0] = float("nan")
    seen: list[TokenTrace] = []
    with attach(model, safety_layers(model, threshold=NEVER), trace=seen.extend):
        logits(model, ASKED)
    assert {trace.row for trace in seen if trace.open} == {0, 1, 2}


def test_sampling_under_a_closed_gate_draws_the_same_tokens() -> None:
    model = random_chat_model("Llama")
    torch.manual_seed(0)
    expected = tokens(model, ASKED, do_sample=True)
    with attach(model, safety_layers(model, threshold=NEVER)):
        torch.manual_seed(0)
        assert torch.equal(tokens(model, ASKED, do_sample=True), expected)


def test_padding_changes_no_decision() -> None:
    model = random_chat_model("Llama")
    seen: list[TokenTrace] = []
    with attach(model, middling(model), trace=seen.extend):
        logits(model, ASKED)
        together = [(t.position, t.kind, t.open) for t in seen if t.row == 1]
        seen.clear()
        logits(model, ASKED[1:2])
    assert [(t.position, t.kind, t.open) for t in seen] == together


def test_a_gate_may_open_in_the_middle_of_a_reply() -> None:
    model = random_chat_model("Llama")
    layers = middling(model)
    limits = layers.record.calibration["harm"].thresholds
    assert limits
    only_replies = limits.model_copy(update={"prompt": NEVER})
    calibration = layers.record.calibration | {
        "harm": layers.record.calibration["harm"].model_copy(update={"thresholds": only_replies})
    }
    record = layers.record.model_copy(update={"calibration": calibration})
    seen: list[TokenTrace] = []
    with attach(model, SafetyLayers(record, layers.heads, layers.correction), trace=seen.extend):
        tokens(model, ASKED)
    assert all(t.kind == "reply" for t in seen if t.open)
    assert any(t.open for t in seen)


@pytest.mark.parametrize("threshold", [NEVER, ALWAYS])
def test_gradient_checkpointing_gives_the_same_gradients(threshold: float) -> None:
    def gradients(checkpointing: bool) -> list[Tensor]:
        model = random_chat_model("Llama")
        if checkpointing:
            model.model.activation_checkpointing_enable()
        model.model.train(True)
        calls: list[int] = []
        model.layers[2].self_attn.register_forward_hook(lambda *_: calls.append(1))
        batch = model.tokenize(render(ASKED, model.tokenizer))
        with attach(model, safety_layers(model, threshold=threshold)):
            output = model.model(
                input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.input_ids, use_cache=False
            )
            output.loss.backward()
        assert len(calls) == 1 + checkpointing
        return [parameter.grad for parameter in model.model.parameters() if parameter.grad is not None]

    for one, other in zip(gradients(True), gradients(False), strict=True):
        torch.testing.assert_close(one, other)


def test_adapters_put_on_afterwards_are_read_through() -> None:
    from peft import LoraConfig, get_peft_model

    model = random_chat_model("Llama")
    seen: list[TokenTrace] = []
    attach(model, safety_layers(model, threshold=ALWAYS), trace=seen.extend)
    adapted = get_peft_model(model.model, LoraConfig(r=2, target_modules=["q_proj"]))
    batch = model.tokenize(render(ASKED, model.tokenizer))
    adapted.generate(input_ids=batch.input_ids, attention_mask=batch.attention_mask, max_new_tokens=2, do_sample=False)
    assert {t.kind for t in seen if t.open} == {"prompt end", "reply"}


def test_half_precision_works_and_stays_in_its_dtype() -> None:
    model = ChatModel(random_model("Llama").to(torch.bfloat16), random_chat_model("Llama").tokenizer)
    before = logits(model, ASKED)
    with attach(model, safety_layers(model, threshold=NEVER)):
        assert torch.equal(logits(model, ASKED), before)
    with attach(model, safety_layers(model, threshold=ALWAYS)):
        after = logits(model, ASKED)
    assert after.dtype is torch.bfloat16
    assert not torch.equal(after, before)


def test_weights_that_accelerate_keeps_on_disk_make_no_difference(tmp_path: Path) -> None:
    from accelerate import disk_offload

    model = random_chat_model("Llama")
    layers = middling(model)
    with attach(model, layers):
        expected = logits(model, ASKED)
    offloaded = ChatModel(copy.deepcopy(model.model), model.tokenizer, name=model.name)
    offloaded.__dict__["weights_hash"] = model.weights_hash
    disk_offload(offloaded.model, str(tmp_path), execution_device=torch.device("cpu"))
    with attach(offloaded, layers):
        torch.testing.assert_close(logits(offloaded, ASKED), expected)


def test_layers_of_another_model_are_refused_and_both_are_named() -> None:
    model, other = random_chat_model("Llama"), random_chat_model("Llama", seed=1)
    with pytest.raises(WrongModelError, match=f"{model.weights_hash[:12]}.*{other.weights_hash[:12]}"):
        attach(other, safety_layers(model))


def test_layers_are_not_put_on_twice() -> None:
    model = random_chat_model("Llama")
    with attach(model, safety_layers(model)), pytest.raises(UsageError, match="already"):
        attach(model, safety_layers(model))


def test_a_folder_without_layers_and_one_with_half_of_them_are_refused(tmp_path: Path) -> None:
    model = random_chat_model("Llama")
    with pytest.raises(LayersError, match="holds no safety layers"):
        attach(model, tmp_path)
    safety_layers(model).save(tmp_path)
    (tmp_path / "safety_layers.safetensors").write_bytes(b"broken")
    with pytest.raises(LayersError, match="damaged"):
        attach(model, tmp_path)
