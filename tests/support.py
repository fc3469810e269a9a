"""What several rooms' tests need: small random models of every architecture and a real small tokenizer."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from safetylayers.attach import GateSettings, HeadCalibration, LayersRecord, SafetyLayers, Thresholds
from safetylayers.attach.correction import Correction
from safetylayers.attach.heads import Heads
from safetylayers.models import ChatModel
from safetylayers.records import Provenance

TEXTS = ["What is the capital of France?", "Hi", "Explain how rain forms, please."]

_COMMON = {
    "vocab_size": 300,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "eos_token_id": 3,
    "bos_token_id": None,
}
_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
_CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama": ("LlamaConfig", {}),
    "Llama4": (
        "Llama4TextConfig",
        {
            **_EXPERTS,
            "intermediate_size_mlp": 48,
            "head_dim": 8,
            "interleave_moe_layer_step": 2,
            "attention_chunk_size": 64,
        },
    ),
    "Qwen2": ("Qwen2Config", {}),
    "Qwen3": ("Qwen3Config", {"head_dim": 8}),
    "Qwen3Moe": (
        "Qwen3MoeConfig",
        {
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 24,
            "head_dim": 8,
            "norm_topk_prob": True,
        },
    ),
    "Gemma2": ("Gemma2Config", {"head_dim": 8, "sliding_window": 16}),
    "Gemma3": ("Gemma3TextConfig", {"head_dim": 8, "sliding_window": 16}),
    "Phi3": ("Phi3Config", {}),
    "Mistral": ("MistralConfig", {"head_dim": 8}),
    "Mixtral": ("MixtralConfig", _EXPERTS),
    "Olmo2": ("Olmo2Config", {}),
    "GPTNeoX": ("GPTNeoXConfig", {}),
    "GptOss": ("GptOssConfig", {**_EXPERTS, "head_dim": 8, "sliding_window": 16}),
}
ARCHITECTURES = tuple(_CONFIGS)
TEMPLATE = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}<|assistant|>"


def random_model(architecture: str, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A random model whose every parameter matters: biases, norms and sinks are random as well."""
    name, extra = _CONFIGS[architecture]
    config = getattr(transformers, name)(**{**_COMMON, **extra, **changes})
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.eval()


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A token a byte, after four special tokens."""
    specials = ["<|pad|>", "<|user|>", "<|assistant|>", "<|end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(specials + alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        additional_special_tokens=["<|user|>", "<|assistant|>"],
    )
    fast.chat_template = TEMPLATE
    return fast


def random_chat_model(architecture: str, seed: int = 0, **changes: Any) -> ChatModel:
    """A random model with the byte tokenizer."""
    return ChatModel(random_model(architecture, seed, **changes), byte_tokenizer(), name=f"random {architecture}")


def safety_layers(
    model: ChatModel,
    *,
    threshold: float = 0.0,
    layers: tuple[int, ...] = (1, 2),
    heads: tuple[str, ...] = ("harm", "refusal"),
    rank: int = 4,
    pools: int = 2,
    width: int = 0,
    gate: GateSettings | None = None,
    seed: int = 0,
) -> SafetyLayers:
    """Random heads and a random correction, whose gate opens where the harm score passes `threshold`."""
    torch.manual_seed(seed)
    made = Heads(len(layers), model.hidden_size, heads, width=width, pools=pools)
    correction = Correction(model.hidden_size, rank)
    with torch.no_grad():
        for parameter in [*made.parameters(), *correction.parameters()]:
            parameter.add_(torch.randn_like(parameter) * 0.3)
    limits = Thresholds(prompt=threshold, mean=threshold, peak=threshold)
    calibration = {name: HeadCalibration(thresholds=limits if name == "harm" else None) for name in heads}
    record = LayersRecord(
        provenance=Provenance(model=model.name, model_hash=model.weights_hash), map_hash="none",
        n_layers=model.n_layers, hidden_size=model.hidden_size, layers=layers, placed_by="user", template="chat",
        trained=True, heads=heads, width=width, pools=pools, rank=rank, calibration=calibration,
        gate=gate or GateSettings(),
    )  # fmt: skip
    return SafetyLayers(record, made.requires_grad_(False), correction.requires_grad_(False))
