"""What the attention heads read from when the reply begins: a diagnostic, and no cause.

A head may attend to a token and take next to nothing from it, and other weights may give the same reply (Jain and
Wallace 2019, arXiv 1902.10186). What a head does to a refusal is measured in `heads.py`.

Shapes: H heads, N chosen heads, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from safetylayers.explain.tokens import Reading
from safetylayers.models.attending import attending
from safetylayers.models.attention_backend import layers_with_attention
from safetylayers.records import Provenance, Record

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

DIAGNOSTIC = "Attention is a diagnostic: it says what heads read from, not what causes the reply."
DIGITS = 5
"""To which weights are rounded, so that the tokens of a long prompt still differ."""


class LastRowAttention(Record):
    """From which tokens the last one reads, head by head: the reply's first token is chosen there.

    A diagnostic, and no cause.
    """

    schema_version: Literal[1] = 1
    provenance: Provenance
    meaning: str = DIAGNOSTIC
    prompt: str
    tokens: tuple[str, ...]
    """Of the rendered prompt."""
    words: tuple[str, ...]
    """Of the prompt as it was typed."""
    token_weights: dict[int, tuple[tuple[float, ...], ...]]
    """Layer -> head -> a weight a token. They sum to 1, but for rounding; with sinks to less."""
    word_weights: dict[int, tuple[tuple[float, ...], ...]]
    """Layer -> head -> the sum of each word's tokens. What the template adds belongs to no word."""


def last_row_attention(model: ChatModel, reading: Reading, layers: Sequence[int] | None = None) -> LastRowAttention:
    """Record what the last token attends to, in one forward pass on the attention that the model has.

    Args:
        model: that reads.
        reading: the prompt.
        layers: by themselves all that have attention.

    Returns:
        Every head's weights over tokens and words. A diagnostic: no weight says that its token caused the reply.

    Raises:
        UsageError: there is no such layer, or the model's attention cannot be recorded.
        UnknownArchitectureError: a layer has no attention of transformers' form.
    """
    # Where no layer has any, recording all of them says so.
    chosen = (layers_with_attention(model) or range(model.n_layers)) if layers is None else layers
    with attending(model, chosen) as found:
        model.next_token_logits(model.batch_of([reading.token_ids]))
    weights: dict[int, list[list[float]]] = {layer: found[layer][0].tolist() for layer in sorted(found)}
    return LastRowAttention(
        provenance=Provenance(model=model.name, model_hash=model.weights_hash),
        prompt=reading.prompt,
        tokens=reading.tokens,
        words=tuple(word.text for word in reading.words),
        token_weights={layer: tuple(map(rounded, heads)) for layer, heads in weights.items()},
        word_weights={layer: tuple(rounded(reading.by_word(row)) for row in heads) for layer, heads in weights.items()},
    )


def attention_maps(model: ChatModel, reading: Reading, heads: Mapping[int, Sequence[int]]) -> dict[int, Tensor]:
    """Return whole attention maps of chosen heads: what each token attends to. A diagnostic, and no cause.

    Args:
        model: that reads.
        reading: the prompt.
        heads: layer -> its chosen heads.

    Returns:
        layer -> float32 [N, T, T] on the CPU; row t says what token t reads from.

    Raises:
        UsageError: there is no such layer or head, or the model's attention cannot be recorded.
        UnknownArchitectureError: a layer has no attention of transformers' form.
    """
    with attending(model, sorted(heads), rows="all", heads=heads) as found:
        model.next_token_logits(model.batch_of([reading.token_ids]))
    return {layer: maps_BNTT[0] for layer, maps_BNTT in found.items()}


def rounded(weights: Sequence[float]) -> tuple[float, ...]:
    """Return weights as a record keeps them."""
    return tuple(round(weight, DIGITS) for weight in weights)
