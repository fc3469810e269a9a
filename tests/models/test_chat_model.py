"""Reading, writing and refusing: what holds for any model, shown on a random Llama."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from safetylayers.errors import ModelError, UnknownArchitectureError, UnsafeWeightsError, UsageError
from safetylayers.models import ChatModel
from safetylayers.models.batching import run_batched
from safetylayers.models.tokens import pad_left
from support import TEXTS, byte_tokenizer, random_chat_model, random_model


def test_batch_size_does_not_change_a_result(llama: ChatModel) -> None:
    texts = [text * times for times in (1, 2, 3) for text in TEXTS]
    together, alone = llama, ChatModel(llama.model, llama.tokenizer, batch_size=1)
    torch.testing.assert_close(together.hidden_states(texts), alone.hidden_states(texts), rtol=1e-4, atol=1e-5)
    assert together.generate(texts, max_new_tokens=8) == alone.generate(texts, max_new_tokens=8)
    torch.testing.assert_close(
        together.opening_logprobs(texts, ["Sure", "No"]), alone.opening_logprobs(texts, ["Sure", "No"])
    )


@settings(max_examples=20, deadline=None)
@given(
    texts=st.lists(st.text(alphabet="abc de", min_size=3, max_size=20), min_size=1, max_size=5),
    position=st.integers(-3, 2),
)
def test_positions_are_counted_within_the_prompt_not_the_padding(texts: list[str], position: int) -> None:
    model = random_chat_model("Llama")
    together = model.hidden_states(texts, positions=[position])
    for index, text in enumerate(texts):
        alone = model.hidden_states([text], positions=[position])[0]
        torch.testing.assert_close(together[index], alone, rtol=1e-4, atol=1e-5)


def test_an_opening_s_log_probability_is_the_sum_over_its_tokens(llama: ChatModel) -> None:
    found = llama.opening_logprobs(["Hello there"], ["Su"])[0, 0]
    first = llama.next_token_logits(llama.tokenize(["Hello there"])).double().log_softmax(-1)[0]
    second = llama.next_token_logits(llama.tokenize(["Hello thereS"])).double().log_softmax(-1)[0]
    s, u = llama.tokenizer("Su", add_special_tokens=False).input_ids
    torch.testing.assert_close(found, first[s] + second[u], rtol=1e-5, atol=1e-5)


def test_greedy_generation_takes_the_likeliest_token_each_time(llama: ChatModel) -> None:
    asked = llama.tokenizer("Hello").input_ids
    tokens: list[int] = []
    while len(tokens) < 5 and llama.tokenizer.eos_token_id not in tokens:
        tokens.append(int(llama.next_token_logits(pad_left([asked + tokens], 0, llama.device)).argmax()))
    expected = llama.tokenizer.decode(tokens, skip_special_tokens=True).strip()
    assert llama.generate(["Hello"], max_new_tokens=5) == [expected]


def test_generation_is_scaled_as_well(llama: ChatModel) -> None:
    before = llama.generate(TEXTS, max_new_tokens=8)
    with llama.scale(3.0):
        assert llama.generate(TEXTS, max_new_tokens=8) != before
    assert llama.generate(TEXTS, max_new_tokens=8) == before


def test_an_exception_inside_an_intervention_still_undoes_it(llama: ChatModel) -> None:
    batch = llama.tokenize(TEXTS)
    before = llama.next_token_logits(batch)
    hidden = torch.zeros(*batch.input_ids.shape, llama.hidden_size)
    for intervention in (
        llama.scale(2.0, 1, 2),
        llama.steer(1, torch.ones(llama.hidden_size), 5.0),
        llama.patch(1, torch.zeros(3, llama.hidden_size)),
        llama.resume_from(2, hidden),
        llama.resume_from(0, hidden),
        llama.stop_after(1),
    ):
        inside = before
        with pytest.raises(KeyboardInterrupt), intervention:  # noqa: PT012 - the block is what is tested
            inside = llama.next_token_logits(batch)
            raise KeyboardInterrupt
        assert not torch.equal(inside, before)
        assert torch.equal(llama.next_token_logits(batch), before)


def test_patching_the_last_position_of_the_last_layer_decides_the_next_token(llama: ChatModel) -> None:
    source, target = llama.tokenize(["Hello"]), llama.tokenize(["Other"])
    values = llama.hidden_states(["Hello"], layers=[3])[:, 0, 0]
    with llama.patch(3, values):
        patched = llama.next_token_logits(target)
    torch.testing.assert_close(patched, llama.next_token_logits(source), rtol=1e-5, atol=1e-5)


def test_the_weights_hash_knows_weights_and_nothing_else(tmp_path: Path) -> None:
    model = random_chat_model("Llama")
    assert model.weights_hash == random_chat_model("Llama").weights_hash
    assert model.weights_hash != random_chat_model("Llama", seed=1).weights_hash
    model.model.to(torch.bfloat16)
    half = model.fresh_weights_hash()
    model.save(tmp_path)
    assert ChatModel.load(tmp_path, dtype="float32", device="cpu").weights_hash == half
    with torch.no_grad():
        next(model.model.parameters())[0, 0] += 1
    assert model.fresh_weights_hash() != half


def test_a_saved_model_loads_as_it_was(tmp_path: Path, llama: ChatModel) -> None:
    loaded = ChatModel.load(llama.save(tmp_path / "saved"), device="cpu")
    assert torch.equal(loaded.next_token_logits(loaded.tokenize(TEXTS)), llama.next_token_logits(llama.tokenize(TEXTS)))
    assert not list((tmp_path / "saved").glob("*.bin"))


def test_pickled_weights_are_refused_by_name(tmp_path: Path, llama: ChatModel) -> None:
    llama.save(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(llama.model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(UnsafeWeightsError, match=r"pytorch_model\.bin") as caught:
        ChatModel.load(tmp_path)
    assert "save_pretrained" in caught.value.mend


@pytest.mark.parametrize("source", ["./nowhere", "/nowhere/at/all"])
def test_a_missing_folder_is_named(source: str) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        ChatModel.load(source)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be loaded") as caught:
        ChatModel.load(tmp_path)
    assert caught.value.mend


def test_an_unknown_dtype_is_a_usage_error(tmp_path: Path, llama: ChatModel) -> None:
    with pytest.raises(UsageError, match="float99"):
        ChatModel.load(llama.save(tmp_path), dtype="float99")


def test_a_model_without_decoder_layers_is_refused() -> None:
    model = random_model("Llama")
    model.config.num_hidden_layers = 5
    with pytest.raises(UnknownArchitectureError, match="0 lists of 5"):
        ChatModel(model, byte_tokenizer())


def test_bad_questions_are_usage_errors(llama: ChatModel) -> None:
    with pytest.raises(UsageError, match="no prompts"):
        llama.generate([])
    with pytest.raises(UsageError, match="empty"):
        llama.generate([""])
    with pytest.raises(UsageError, match="only 2 tokens"):
        llama.hidden_states(["Hi", "Hello"], positions=[2])
    with pytest.raises(UsageError, match="layers 2 to 9"), llama.scale(1.1, 2, 9):
        pass
    with pytest.raises(UsageError, match=r"\[rows, 4\]"), llama.scale(torch.ones(2, 3)):
        pass


def test_the_batch_is_halved_until_memory_suffices() -> None:
    sizes = []

    def work(indices: list[int]) -> list[int]:
        sizes.append(len(indices))
        if len(indices) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return indices

    assert run_batched([1] * 7, 8, work, what="items") == list(range(7))
    assert sizes == [7, 4, 2, 2, 2, 1]


def test_a_single_sequence_that_does_not_fit_is_a_model_error() -> None:
    def work(indices: list[int]) -> list[int]:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(ModelError, match="single sequence of 9 tokens"):
        run_batched([9], 8, work, what="items")


def test_other_errors_are_not_taken_for_lack_of_memory() -> None:
    def work(indices: list[int]) -> list[int]:
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        run_batched([9], 8, work, what="items")


def test_what_is_read_is_the_layer_s_own_output_whoever_came_first(llama: ChatModel) -> None:
    batch = pad_left([llama.tokenizer(TEXTS[0]).input_ids], 0, llama.device)
    direction = torch.ones(llama.hidden_size)
    with llama.capture([1]) as plain:
        llama.next_token_logits(batch)
    with llama.capture([1]) as outside, llama.steer(1, direction, 5.0):
        llama.next_token_logits(batch)
    with llama.steer(1, direction, 5.0), llama.capture([1]) as inside:
        llama.next_token_logits(batch)
    assert torch.equal(plain[1], outside[1])
    assert torch.equal(plain[1], inside[1])
