"""Everything about a run that is a number or a choice, as one record that the result keeps."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from safetylayers.records import Record


class HardenSettings(Record):
    """Settings of all methods; each reads its own."""

    learning_rate: float = Field(default=5e-4, gt=0)
    """The highest; it rises over the first steps and then falls to zero."""
    steps: int = Field(default=300, ge=1)
    batch_size: int = Field(default=16, ge=1)
    """Harmful rows a step and part of the method."""
    retain_batch_size: int = Field(default=32, ge=1)
    """Rows of utility data a step. Too few of them, and borderline requests are refused along with harmful ones."""
    lora_rank: int = Field(default=16, ge=1)
    strength: float = Field(default=1.0, gt=0)
    """How far the weights go along the way that training found: 1 is as far as it went."""
    styled: bool = True
    """Every request comes a second time, in a drawn style: wrapped in a story, mistyped, politely asked."""
    consistent: bool = True
    """Harmful requests that the model complies with when plainly asked are left out: its refusals become robust, and
    its line between harmful and harmless moves less. A model that refuses nothing learns from all of them."""
    max_length: int = Field(default=256, ge=8)
    """Tokens of a request with its reply; longer requests are left out, longer replies cut off."""

    compliant_tokens: int = Field(default=24, ge=1)
    """First tokens of a compliant reply that adversaries want and training moves away from."""
    toward: float = Field(default=1.0, ge=0)
    """Weight of saying the refusal."""
    away: float = Field(default=0.5, ge=0)
    """Weight of not saying the compliant reply, where an adversary wants it: -log(1 - p) a token."""
    retain_weight: float = Field(default=1.0, ge=0)
    """Weight of the utility data."""
    retain_loss: Literal["kl", "constrained"] = "kl"
    """KL to the original model's distribution, or the token-weighted constrained objective (2406.05946, section 4)."""

    longest_prefix: int = Field(default=40, ge=1)
    """Deep alignment: tokens of a compliant reply that may stand before the refusal."""
    without_prefix: float = Field(default=0.3, ge=0, le=1)
    """Deep alignment: share of rows whose refusal begins at once."""

    inner_steps: int = Field(default=8, ge=1)
    """Latent, embeddings: gradient steps of the adversary."""
    latent_radius: float = Field(default=0.5, gt=0)
    """Latent: bound of a token's perturbation, as a share of the layer's mean hidden-state norm."""
    embedding_radius: float = Field(default=0.2, gt=0)
    """Embeddings: the same at the embeddings."""
    embedding_loss: Literal["cat", "capo"] = "cat"
    """Toward and away terms, or the preference loss with the original model as its reference."""
    capo_tau: float = Field(default=0.1, gt=0)
    """CAPO: the wanted margin is 1 / (2 tau) nats."""
    soft_tokens: int = Field(default=8, ge=0)
    """Embeddings: free tokens behind the request whose embeddings the adversary sets without a bound."""
    soft_share: float = Field(default=0.7, ge=0, le=1)
    """Embeddings: share of the steps that have free tokens."""
    soft_reach: float = Field(default=3.0, gt=0)
    """Embeddings: how far a coordinate of a free token may travel, in deviations of the embeddings' weights."""

    pool: int = Field(default=64, ge=1)
    """Discrete: cases that persist."""
    suffix_tokens: int = Field(default=12, ge=1)
    suffix_updates: int = Field(default=1, ge=1)
    """Discrete: steps of the suffix optimiser before a case is trained on."""
    reset_every: int = Field(default=50, ge=1)
    """Discrete: steps after which a fifth of the pool begins anew."""

    reroute: float = Field(default=10.0, gt=0)
    """Circuit breaker: alpha, the coefficients' common scale."""


RESET_SHARE = 0.2
"""Of the pool (2402.04249, section 5)."""
