"""Heads learn from stored hidden states, with the worst small change of these states in the loss.

For each batch the states are moved against the heads, within a ball around them, by one gradient step (the fast
gradient method, arXiv 1605.07725, on hidden states instead of embeddings), and the loss is taken on both. A head that
only works on the very states it has seen is of no use against somebody who moves them.

Shapes: S attached layers, N tokens, H hidden size, K heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from safetylayers.attach.heads import Heads, pooled
from safetylayers.attach.rows import LabelledRow, labels
from safetylayers.attach.states import States
from safetylayers.errors import NonFiniteLossError
from safetylayers.records import ProgressCallback

CHUNK = 64
"""Rows whose states are held in memory at once, where no batch says otherwise."""


@dataclass(frozen=True)
class HeadTraining:
    """How heads are trained."""

    width: int = 0
    """Of the hidden layer; 0 for linear heads."""
    pools: int = 8
    epochs: int = 6
    batch_size: int = 256
    """Rows."""
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    perturbation: float = 0.1
    """Radius of the ball, as a share of a standardised state's usual length; 0 trains without."""
    alone: float = 0.3
    """Weight of every layer's own loss beside that of their mean."""


@dataclass(frozen=True)
class Targets:
    """What the heads should say of each token of some rows: [rows' tokens, K]; NaN where that is not known."""

    values_NK: Tensor
    weights_N: Tensor
    """A prompt's end weighs as much as all tokens of its reply."""


def targets(rows: Sequence[LabelledRow], lengths: Sequence[tuple[int, int]], heads: Sequence[str]) -> Targets:
    """Return the targets of rows, given the length of each one's prompt and of its whole."""
    total = sum(whole for _, whole in lengths)
    values, weights = torch.full((total, len(heads)), float("nan")), torch.zeros(total)
    start = 0
    for row, (prompt, whole) in zip(rows, lengths, strict=True):
        end, stop = start + prompt - 1, start + whole
        for k, head in enumerate(heads):
            at_end, in_reply = labels(row, head)
            values[end, k] = float("nan") if at_end is None else float(at_end)
            values[end + 1 : stop, k] = float("nan") if in_reply is None else float(in_reply)
        weights[end] = 1.0
        weights[end + 1 : stop] = 1.0 / max(1, whole - prompt)
        start = stop
    return Targets(values, weights)


def train_heads(
    states: States,
    rows: Sequence[LabelledRow],
    names: Sequence[str],
    settings: HeadTraining,
    *,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Heads:
    """Train heads.

    Args:
        states: of all rows.
        rows: what is known of them.
        names: of the heads.
        settings: how.
        seed: of initial weights and order.
        progress: told of every epoch.

    Raises:
        NonFiniteLossError: the loss became NaN or infinite.
    """
    torch.manual_seed(seed)
    mean_SH, deviation_SH = _standard(states)
    heads = Heads(len(mean_SH), mean_SH.shape[1], names, width=settings.width, pools=settings.pools)
    optimizer = torch.optim.AdamW(heads.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    size = min(settings.batch_size, len(states))
    steps = settings.epochs * (len(states) // size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, total_steps=steps)
    rng = np.random.default_rng(seed)
    for epoch in range(settings.epochs):
        order = rng.permutation(len(states))
        for batch in (order[start : start + size].tolist() for start in range(0, len(order) - size + 1, size)):
            loss = _loss(heads, states, rows, batch, mean_SH, deviation_SH, settings)
            if not torch.isfinite(loss):
                raise NonFiniteLossError(
                    f"The heads' loss became {loss.item()} in epoch {epoch}.",
                    mend="Lower the learning rate; look for NaN in the model's own outputs.",
                )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        if progress:
            progress(epoch + 1, settings.epochs, "training heads")
    heads.standardise(mean_SH, deviation_SH)
    return heads.requires_grad_(False)


def _standard(states: States, most: int = 2_000) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of every feature of every layer: [S, H] each, from one chunk of rows after another."""
    sample = np.linspace(0, len(states) - 1, min(most, len(states)), dtype=int).tolist()
    count, total_SH, squares_SH = 0, torch.zeros(()), torch.zeros(())
    for start in range(0, len(sample), CHUNK):
        hidden_SNH = states.gather(sample[start : start + CHUNK])[0].double()
        count += hidden_SNH.shape[1]
        total_SH, squares_SH = total_SH + hidden_SNH.sum(dim=1), squares_SH + hidden_SNH.square().sum(dim=1)
    mean_SH = total_SH / count
    variance_SH = (squares_SH / count - mean_SH.square()).clamp(min=0)
    return mean_SH.float(), variance_SH.sqrt().clamp(min=1e-3).float()


def _loss(
    heads: Heads, states: States, rows: Sequence[LabelledRow], batch: Sequence[int],
    mean_SH: Tensor, deviation_SH: Tensor, settings: HeadTraining,
) -> Tensor:  # fmt: skip
    hidden_SNH, segments_N = states.gather(batch)
    hidden_SNH = (hidden_SNH - mean_SH[:, None]) / deviation_SH[:, None]
    lengths = [(states.prompt_lengths[row], states.length(row)) for row in batch]
    wanted = targets([rows[row] for row in batch], lengths, heads.names)

    def loss_of(states_SNH: Tensor) -> Tensor:
        scores_SNK = pooled(heads(states_SNH), segments_N, len(batch), len(heads.names))
        together = likelihood(scores_SNK.mean(dim=0), wanted)
        return together + settings.alone * torch.stack([likelihood(one, wanted) for one in scores_SNK]).mean()

    if not settings.perturbation:
        return loss_of(hidden_SNH)
    hidden_SNH.requires_grad_(True)
    clean = loss_of(hidden_SNH)
    (gradient_SNH,) = torch.autograd.grad(clean, hidden_SNH, retain_graph=True)
    radius = settings.perturbation * hidden_SNH.shape[-1] ** 0.5
    unit_SNH = gradient_SNH / gradient_SNH.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    return (clean + loss_of((hidden_SNH + radius * unit_SNH).detach())) / 2


def likelihood(scores_NK: Tensor, wanted: Targets) -> Tensor:
    """Return the weighted binary cross-entropy over all that is known."""
    known_NK = ~wanted.values_NK.isnan() & (wanted.weights_N[:, None] > 0)
    losses_NK = functional.binary_cross_entropy_with_logits(scores_NK, wanted.values_NK.nan_to_num(), reduction="none")
    weights_NK = known_NK * wanted.weights_N[:, None]
    return (losses_NK * weights_NK).sum() / weights_NK.sum().clamp(min=1e-6)


def adversarial_scores(
    heads: Heads, states: States, harmful: Sequence[bool], radius: float, *, steps: int = 10
) -> NDArray[np.float64]:
    """Return the harm head's scores at the last token after every token's state was moved against it: [rows].

    Projected gradient descent (arXiv 1706.06083) within a ball around each token's standardised state, at all attached
    layers at once: harmful rows are made to look harmless, harmless ones harmful.

    Args:
        heads: which the attacker knows.
        states: of rows without replies.
        harmful: of each row.
        radius: of the ball, as a share of a standardised state's usual length.
        steps: of gradient descent.
    """
    _, deviation_SH = _standard(states)
    parts = [
        _moved_scores(heads, states, list(rows), harmful, deviation_SH, radius, steps)
        for rows in np.array_split(np.arange(len(states)), max(1, len(states) // CHUNK))
    ]
    return np.concatenate(parts)


def _moved_scores(
    heads: Heads, states: States, rows: Sequence[int], harmful: Sequence[bool], deviation_SH: Tensor, radius: float,
    steps: int,
) -> NDArray[np.float64]:  # fmt: skip
    hidden_SNH, segments_N = states.gather(rows)
    last_N = torch.tensor([states.length(row) for row in rows]).cumsum(0) - 1
    signs = torch.tensor([-1.0 if harmful[row] else 1.0 for row in rows])
    length = radius * hidden_SNH.shape[-1] ** 0.5

    def scores(moved_SNH: Tensor) -> Tensor:
        read = heads(hidden_SNH + moved_SNH * deviation_SH[:, None])
        return pooled(read, segments_N, len(rows), len(heads.names))[:, last_N, 0].mean(dim=0)

    moved_SNH = torch.zeros_like(hidden_SNH)
    for _ in range(steps if radius else 0):
        moved_SNH.requires_grad_(True)
        (gradient_SNH,) = torch.autograd.grad((signs * scores(moved_SNH)).sum(), moved_SNH)
        unit_SNH = gradient_SNH / gradient_SNH.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        moved_SNH = (moved_SNH + 2.5 * length / steps * unit_SNH).detach()
        norm_SN1 = moved_SNH.norm(dim=-1, keepdim=True)
        moved_SNH = moved_SNH * (length / norm_SN1.clamp(min=length))
    with torch.no_grad():
        return np.asarray(scores(moved_SNH).double().numpy())
