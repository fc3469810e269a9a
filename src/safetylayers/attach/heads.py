"""Heads: what a hidden state says of harm, of refusal and of each named value.

A head reads the hidden state of every token at every attached layer, linearly or through one small hidden layer, and
pools what it read so far: score_t = sum over pools of (sum_{s<=t} e^{q_s} v_s) / (sum_{s<=t} e^{q_s}), an attention
probe (arXiv 2506.10805, section 3) that can be computed token by token. Without pools it is a plain probe of the
current token. All heads of a layer are one matrix product.

Shapes: S attached layers, N tokens, H hidden size, M width, K heads, P pools, C = K * max(P, 1) channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


@dataclass(frozen=True)
class Reading:
    """What the heads read in each token."""

    values_SNC: Tensor
    queries_SNC: Tensor | None
    """None without pools."""


class Heads(nn.Module):
    """The heads of all attached layers, with the standardisation of the hidden states folded in by `standardise`."""

    def __init__(self, layers: int, hidden_size: int, names: Sequence[str], *, width: int = 0, pools: int = 4) -> None:
        """Make untrained heads.

        Args:
            layers: how many are attached.
            hidden_size: of the model.
            names: of the heads.
            width: of the hidden layer; 0 for linear heads.
            pools: attention-weighted means a score is the sum of; 0 to look at the current token alone.
        """
        super().__init__()
        self.names = tuple(names)
        self.width, self.pools = width, pools
        self.channels = len(self.names) * max(pools, 1)
        read = width or hidden_size
        if width:
            self.inner = nn.Parameter(torch.randn(layers, hidden_size, width) * hidden_size**-0.5)
            self.inner_bias = nn.Parameter(torch.zeros(layers, width))
        outputs = self.channels * (2 if pools else 1)
        self.outer = nn.Parameter(torch.randn(layers, read, outputs) * 0.1 * read**-0.5)
        self.outer_bias = nn.Parameter(torch.zeros(layers, outputs))

    def forward(self, hidden_SNH: Tensor) -> Reading:
        """Read tokens at all layers."""
        read_SNC = torch.stack([self.read(layer, hidden_NH) for layer, hidden_NH in enumerate(hidden_SNH)])
        if not self.pools:
            return Reading(read_SNC, None)
        values_SNC, queries_SNC = read_SNC.tensor_split(2, dim=-1)
        return Reading(values_SNC, queries_SNC)

    def read(self, layer: int, hidden_NH: Tensor) -> Tensor:
        """Return values, and behind them queries where there are pools, as one product: [N, C or 2 C]."""
        if self.width:
            hidden_NH = torch.addmm(self.inner_bias[layer], hidden_NH, self.inner[layer]).relu()
        return torch.addmm(self.outer_bias[layer], hidden_NH, self.outer[layer])

    @torch.no_grad()
    def standardise(self, mean_SH: Tensor, deviation_SH: Tensor) -> None:
        """Change weights that were trained on standardised hidden states into ones that take them as they are."""
        weight, bias = (self.inner, self.inner_bias) if self.width else (self.outer, self.outer_bias)
        scaled = weight / deviation_SH[:, :, None]
        bias.sub_(torch.bmm(mean_SH[:, None, :], scaled)[:, 0])
        weight.copy_(scaled)

    @classmethod
    def of_probes(cls, weights_SH: Tensor, bias_S: Tensor, name: str) -> Heads:
        """Return one linear head, made of probes of the current token."""
        heads = cls(len(weights_SH), weights_SH.shape[1], (name,), pools=0)
        with torch.no_grad():
            heads.outer.copy_(weights_SH[:, :, None])
            heads.outer_bias.copy_(bias_S[:, None])
        return heads


def pooled(reading: Reading, segments_N: Tensor, rows: int, heads: int) -> Tensor:
    """Return every token's score, differentiably: [S, N, K].

    Args:
        reading: of the rows' tokens, one row after another.
        segments_N: which row each token belongs to, ascending.
        rows: how many there are.
        heads: how many there are.
    """
    values_SNC, queries_SNC = reading.values_SNC, reading.queries_SNC
    if queries_SNC is not None:
        weights_SNC = queries_SNC.exp()
        # Sums over all tokens before, less what had been summed up before the row began.
        weighted_SNC = _within(weights_SNC * values_SNC, segments_N, rows)
        values_SNC = weighted_SNC / _within(weights_SNC, segments_N, rows)
    return values_SNC.reshape(*values_SNC.shape[:2], heads, -1).sum(-1)


def _within(amounts_SNC: Tensor, segments_N: Tensor, rows: int) -> Tensor:
    """Return running sums within each row: double precision, since rows are subtracted from one long sum."""
    exact = torch.float32 if amounts_SNC.device.type == "mps" else torch.float64
    sums_SNC = amounts_SNC.to(exact).cumsum(dim=1)
    lengths = torch.bincount(segments_N, minlength=rows)
    ends = lengths.cumsum(0)
    before = torch.cat([torch.zeros_like(sums_SNC[:, :1]), sums_SNC], dim=1)[:, ends - lengths]
    return (sums_SNC - before[:, segments_N]).to(amounts_SNC.dtype)


class HostHeads:
    """The same heads on the host, in NumPy: for one token, calls cost more than arithmetic, and these cost less."""

    def __init__(self, heads: Heads) -> None:
        """Copy the heads' weights."""
        arrays = {name: parameter.detach().cpu().float().numpy() for name, parameter in heads.named_parameters()}
        self._inner = list(zip(arrays["inner"], arrays["inner_bias"], strict=True)) if heads.width else None
        self._outer = list(arrays["outer"])
        self._bias = arrays["outer_bias"].reshape(-1).astype(np.float64)

    def read(self, hidden: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
        """Return what `Heads.read` returns, of all attached layers side by side: [N, S * (C or 2 C)].

        Args:
            hidden: of each attached layer: [N, H].
        """
        if self._inner:
            hidden = [
                np.maximum(one.dot(weight) + bias, 0) for one, (weight, bias) in zip(hidden, self._inner, strict=True)
            ]
        read = [one.dot(weight) for one, weight in zip(hidden, self._outer, strict=True)]
        return np.concatenate(read, axis=1) + self._bias
