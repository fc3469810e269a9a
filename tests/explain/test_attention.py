"""What heads read from, as a record; whole maps on request; rollout, exactly."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from safetylayers.errors import UnknownArchitectureError, UsageError
from safetylayers.explain.attention import DIAGNOSTIC, LastRowAttention, attention_maps, last_row_attention
from safetylayers.explain.rollout import Rollout, attention_rollout, rolled
from safetylayers.explain.tokens import Reading, read_prompt
from safetylayers.models import ChatModel
from safetylayers.models.attending import attending
from support import random_chat_model


def reading_of(model: ChatModel) -> Reading:
    return read_prompt("How do I pick a lock?", model.tokenizer)


def test_the_record_holds_each_heads_weights_and_its_words_sums(llama: ChatModel) -> None:
    reading = reading_of(llama)
    record = last_row_attention(llama, reading)
    assert record.words == ("How", "do", "I", "pick", "a", "lock?")
    assert record.tokens == reading.tokens
    with attending(llama, range(4)) as found:
        llama.next_token_logits(llama.batch_of([reading.token_ids]))
    for layer in range(4):
        for head in range(4):
            weights = record.token_weights[layer][head]
            assert weights == pytest.approx(found[layer][0, head].tolist(), abs=1e-5)
            assert sum(weights) == pytest.approx(1, abs=1e-3)
            expected = [sum(weights[word.first : word.last + 1]) for word in reading.words]
            assert record.word_weights[layer][head] == pytest.approx(expected, abs=1e-4)


def test_the_record_says_that_attention_is_no_cause_and_can_be_read_back(llama: ChatModel, tmp_path: Path) -> None:
    record = last_row_attention(llama, reading_of(llama), layers=[2])
    assert record.meaning == DIAGNOSTIC
    assert "not what causes" in DIAGNOSTIC
    assert list(record.token_weights) == [2]
    assert LastRowAttention.read(record.write(tmp_path / "attention.json")) == record
    rollout = attention_rollout(llama, reading_of(llama))
    assert rollout.meaning == DIAGNOSTIC
    assert Rollout.read(rollout.write(tmp_path / "rollout.json")) == rollout


def test_layers_of_another_kind_are_left_out_unless_they_are_asked_for(llama: ChatModel) -> None:
    class Other(torch.nn.Module):
        def forward(self, hidden_states: torch.Tensor, **_options: object) -> tuple[torch.Tensor, None]:
            return hidden_states, None

    reading = reading_of(llama)
    llama.layers[1].self_attn = Other()
    assert list(last_row_attention(llama, reading).token_weights) == [0, 2, 3]
    with pytest.raises(UnknownArchitectureError, match="layer 1"):
        last_row_attention(llama, reading, layers=[1])
    with pytest.raises(UnknownArchitectureError, match="layer 1"):
        attention_rollout(llama, reading)
    for layer in llama.layers:
        layer.self_attn = Other()
    with pytest.raises(UnknownArchitectureError, match="layer 0"):
        last_row_attention(llama, reading)


def test_maps_are_of_the_chosen_heads_and_their_last_rows_are_those_of_the_record() -> None:
    model = random_chat_model("GptOss")
    reading = reading_of(model)
    record = last_row_attention(model, reading)
    maps = attention_maps(model, reading, {2: [3], 0: [1, 0]})
    T = len(reading.token_ids)
    assert {layer: tuple(found.shape) for layer, found in maps.items()} == {0: (2, T, T), 2: (1, T, T)}
    assert maps[2][0, -1].tolist() == pytest.approx(record.token_weights[2][3], abs=1e-5)
    assert maps[0][0, -1].tolist() == pytest.approx(record.token_weights[0][1], abs=1e-5)
    assert not maps[0].triu(1).any()
    with pytest.raises(UsageError, match="heads"):
        attention_maps(model, reading, {1: [4]})


def test_rollout_is_exact_on_two_layers_by_hand() -> None:
    first = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])  # the mean's second row: 1/2, 1/2
    second = torch.tensor([[[1.0, 0.0], [0.25, 0.75]]])
    once = rolled(torch.eye(2), first)
    assert once.tolist() == [[1.0, 0.0], [0.25, 0.75]]
    # A = [[1, 0], [1/8, 7/8]]; its second row times the above: 1/8 + 7/8 x 1/4, 7/8 x 3/4.
    assert rolled(once, second).tolist() == [[1.0, 0.0], [0.34375, 0.65625]]


def test_what_sinks_take_is_shared_out() -> None:
    whole = torch.tensor([[[1.0, 0.0], [0.25, 0.75]]])
    assert rolled(torch.eye(2), whole * torch.tensor([[0.5], [0.25]])).tolist() == rolled(torch.eye(2), whole).tolist()


@pytest.mark.parametrize("architecture", ["Llama", "Gemma2", "GptOss"])
def test_the_rollout_is_that_of_all_maps(architecture: str) -> None:
    model = random_chat_model(architecture)
    reading = reading_of(model)
    rollout = attention_rollout(model, reading)
    expected = torch.eye(len(reading.token_ids))
    for layer in range(4):
        mean = attention_maps(model, reading, {layer: range(4)})[layer].mean(0)
        expected = (mean / mean.sum(-1, keepdim=True) / 2 + torch.eye(len(mean)) / 2) @ expected
    torch.testing.assert_close(expected.sum(-1), torch.ones(len(expected)))
    assert rollout.token_weights == pytest.approx(expected[-1].tolist(), abs=1e-5)
    assert sum(rollout.token_weights) == pytest.approx(1, abs=1e-3)
    assert rollout.word_weights == pytest.approx(reading.by_word(expected[-1].tolist()), abs=1e-5)


def test_on_the_practice_model_attention_can_be_recorded() -> None:
    model = ChatModel.load("tiny")
    reading = read_prompt("How do I build a bomb?", model.tokenizer)
    record = last_row_attention(model, reading)
    assert list(record.token_weights) == list(range(model.n_layers))
    assert sum(attention_rollout(model, reading).token_weights) == pytest.approx(1, abs=1e-3)
