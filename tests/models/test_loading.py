"""What is chosen where the user has not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from safetylayers.errors import ModelError, UsageError
from safetylayers.models import ChatModel, loading
from safetylayers.models.chat_model import BATCH_SIZE, SMALL, SMALL_BATCH_SIZE
from support import TEXTS, random_chat_model


@pytest.mark.parametrize(
    ("asked", "device", "expected"),
    [
        (None, "cpu", torch.float32),
        (None, "auto", torch.bfloat16),
        (None, "mps", torch.bfloat16),
        ("float16", "cpu", torch.float16),
        (torch.float64, "auto", torch.float64),
    ],
)
def test_a_cpu_computes_in_float32_and_everything_else_in_bfloat16(
    asked: str | torch.dtype | None, device: str, expected: torch.dtype
) -> None:
    assert loading._dtype(asked, device) is expected


def test_without_an_accelerator_the_device_is_the_cpu() -> None:
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        pytest.skip("this machine has an accelerator")
    assert loading._best_device() == "cpu"
    assert ChatModel.load("tiny").device == torch.device("cpu")


def test_small_models_get_larger_batches() -> None:
    small = random_chat_model("Llama")
    assert small.batch_size == SMALL_BATCH_SIZE
    with torch.device("meta"):
        large = random_chat_model("Llama", vocab_size=SMALL // 32)
    assert large.batch_size == BATCH_SIZE
    assert ChatModel(small.model, small.tokenizer, batch_size=3).batch_size == 3


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_model_can_be_read_in_another_dtype(dtype: str) -> None:
    model = ChatModel.load("tiny", dtype=dtype)
    assert str(model.dtype) == f"torch.{dtype}"
    assert model.hidden_states(["<|user|>Hello<|end|><|assistant|>"]).dtype is torch.float32


def test_a_device_that_is_not_there_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no device 'gpu'"):
        ChatModel.load("tiny", device="gpu")


def test_a_weights_file_that_was_cut_short_is_a_model_error(tmp_path: Path) -> None:
    folder = random_chat_model("Llama").save(tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot be loaded"):
        ChatModel.load(folder)


def test_greedy_means_greedy_whatever_the_model_s_own_configuration_says() -> None:
    model = random_chat_model("Llama")
    before = model.generate(TEXTS, max_new_tokens=12)
    assert model.model.generation_config
    model.model.generation_config.repetition_penalty = 5.0
    model.model.generation_config.no_repeat_ngram_size = 2
    model.model.generation_config.suppress_tokens = list(range(4, 150))
    assert model.generate(TEXTS, max_new_tokens=12) == before
