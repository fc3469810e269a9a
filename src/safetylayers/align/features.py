"""What rewards read: hidden states of a reply in its conversation.

Shapes: N replies, L layers, H hidden size, F = L x H features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from safetylayers.errors import UsageError
from safetylayers.models.batching import run_batched
from safetylayers.models.structure import text_config
from safetylayers.prompts.pairs import PairSet, Turn
from safetylayers.prompts.rendering import render_messages
from safetylayers.records import ProgressCallback

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

Features = NDArray[np.float64]


class Read(NamedTuple):
    """Replies as a model sees them."""

    states: Features
    """[N, L x H]"""
    tokens: Features
    """[N]; over how many tokens each one's states are the mean."""


Pool = Literal["mean", "last"]
POOLS: tuple[str, ...] = get_args(Pool)


def read_features(
    model: ChatModel,
    conversations: Sequence[Sequence[Turn]],
    replies: Sequence[str],
    *,
    layers: Sequence[int],
    pool: Pool = "mean",
    progress: ProgressCallback | None = None,
) -> Read:
    """Read replies with one forward pass each, up to the last of the layers.

    Of what is longer than the model's context, the end is read.

    Args:
        model: that reads.
        conversations: what each reply answers.
        replies: as texts.
        layers: whose outputs are taken, one after another.
        pool: over the reply's tokens their mean, or its last one alone.
        progress: told after each batch.

    Raises:
        UsageError: a layer or a reply is missing, or numbers of conversations and replies differ.
    """
    if len(conversations) != len(replies):
        raise UsageError(f"{len(conversations)} conversations but {len(replies)} replies.", mend="Give one reply each.")
    if not replies:
        raise UsageError("There is nothing to read: no replies were given.", mend="Give at least one.")
    if not layers or not all(0 <= layer < model.n_layers for layer in layers):
        raise UsageError(f"There are no layers {list(layers)}.", mend=f"There are 0 to {model.n_layers - 1}.")
    asked = [render_messages(list(turns), model.tokenizer) for turns in conversations]
    begun = model.tokenizer(asked, add_special_tokens=False).input_ids
    said = model.tokenizer(list(replies), add_special_tokens=False).input_ids
    if not all(said):
        raise UsageError("A reply is empty: it has no token.", mend="Leave empty replies out.")

    window = int(getattr(text_config(model.model), "max_position_embeddings", 0) or 0)
    rows = [(before + reply)[-window:] for before, reply in zip(begun, said, strict=True)]

    def work(indices: list[int]) -> list[Features]:
        batch = model.batch_of([rows[index] for index in indices])
        with model.stop_after(max(layers)), model.capture(layers) as found:
            model.next_token_logits(batch)
        states_LBTH = torch.stack([found[layer].float().cpu() for layer in layers])
        return [_pooled(states_LBTH[:, row, -len(said[index]) :], pool) for row, index in enumerate(indices)]

    lengths = list(map(len, rows))
    states = np.stack(run_batched(lengths, model.batch_size, work, what="reading replies", progress=progress))
    counts = [min(len(ids), len(row)) if pool == "mean" else 1 for ids, row in zip(said, rows, strict=True)]
    return Read(states, np.array(counts, dtype=float))


def _pooled(states_LTH: torch.Tensor, pool: Pool) -> Features:
    chosen_LH = states_LTH.mean(1) if pool == "mean" else states_LTH[:, -1]
    return chosen_LH.double().flatten().numpy()


def read_pairs(
    model: ChatModel,
    pairs: PairSet,
    *,
    layers: Sequence[int],
    pool: Pool = "mean",
    progress: ProgressCallback | None = None,
) -> tuple[Read, Read]:
    """Return the chosen replies and the rejected ones. Raises UsageError."""
    turns = [pair.messages for pair in pairs]
    replies = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    states, tokens = read_features(model, turns * 2, replies, layers=layers, pool=pool, progress=progress)
    n = len(pairs)
    return Read(states[:n], tokens[:n]), Read(states[n:], tokens[n:])
