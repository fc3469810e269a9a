"""What training on harmful rows minimises, a token at a time.

Shapes: B rows, R reply columns. `learnt` says which columns count.
"""

from __future__ import annotations

import torch
from torch import Tensor


def toward(logprobs_BR: Tensor, learnt_BR: Tensor) -> Tensor:
    """Return the mean negative log-likelihood."""
    return -_mean(logprobs_BR, learnt_BR)


def away(logprobs_BR: Tensor, learnt_BR: Tensor) -> Tensor:
    """Return the mean of -log(1 - p): it stops pulling where a token is unlikely already (2407.15549, section 3)."""
    bounded = logprobs_BR.clamp(max=-1e-4)  # so that a token of probability one has a finite gradient
    return -_mean(torch.log(-torch.expm1(bounded)), learnt_BR)


def preferred(gain_B: Tensor, tau: float) -> Tensor:
    """Return the identity-preference loss of CAPO (2405.15589, section 3.2).

    Args:
        gain_B: log-likelihood ratio to the original model of the refusal, less that of the compliant reply.
        tau: the wanted gain is 1 / (2 tau).
    """
    return ((gain_B - 1 / (2 * tau)) ** 2).mean()


def _mean(values_BR: Tensor, learnt_BR: Tensor) -> Tensor:
    return torch.where(learnt_BR, values_BR, 0.0).sum() / learnt_BR.sum().clamp(min=1)
