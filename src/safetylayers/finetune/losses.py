"""What the objectives minimise.

Shapes: B rows, T tokens, K tokens to learn from, V vocabulary, H hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from safetylayers.finetune.data import IGNORED

FIRST, NEXT, LATER = 0.5, 2.0, 0.1
"""Beta of the constrained objective: of a reply's first token, the next four, and all later ones (2406.05946, 4.1)."""
NEXT_TOKENS = 4


def learnt_logits(model: Any, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the logits before every token to learn from, float32 [K, V], and those tokens, [K]."""
    logits_BTV = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
    targets_BT = inputs["labels"][:, 1:].to(logits_BTV.device)
    learnt_BT = targets_BT != IGNORED
    return logits_BTV[:, :-1][learnt_BT].float(), targets_BT[learnt_BT]


def likelihood(model: Any, inputs: Mapping[str, Tensor]) -> Tensor:
    """Return the mean negative log-likelihood of the tokens to learn."""
    logits_KV, targets_K = learnt_logits(model, inputs)
    return functional.cross_entropy(logits_KV, targets_K)


def places(labels_BT: Tensor) -> Tensor:
    """Return which token of its reply each token to learn is, from 1: [K], row by row."""
    learnt_BT = labels_BT[:, 1:] != IGNORED
    return learnt_BT.cumsum(dim=1)[learnt_BT]


def constrained(logprobs_K: Tensor, original_K: Tensor, places_K: Tensor) -> Tensor:
    """Return the token-weighted constrained objective (arXiv 2406.05946, equation 3), a mean over tokens.

    Its gradient is that of the likelihood where a token is as likely as it was. Where beta is high, the pull ends once
    the token has become likelier than it was; that is how the first tokens, which decide on refusal, are held.
    """
    beta_K = torch.full_like(logprobs_K, LATER)
    beta_K = torch.where(places_K <= 1 + NEXT_TOKENS, NEXT, beta_K)
    beta_K = torch.where(places_K <= 1, FIRST, beta_K)
    return -(2 / beta_K * functional.logsigmoid(beta_K * (logprobs_K - original_K))).mean()


def divergence(logits_KV: Tensor, original_KV: Tensor) -> Tensor:
    """Return the mean KL divergence of the original next-token distributions from these."""
    original = original_KV.log_softmax(-1)
    return functional.kl_div(logits_KV.log_softmax(-1), original, log_target=True, reduction="batchmean")


def displacement(hidden_BTH: Tensor, original_BTH: Tensor, mask_BT: Tensor) -> Tensor:
    """Return the mean squared distance of hidden states from the original ones, in units of their mean square."""
    there = mask_BT.bool().to(hidden_BTH.device)
    now, was = hidden_BTH[there].float(), original_BTH.to(hidden_BTH.device)[there].float()
    return (now - was).square().sum() / was.square().sum().clamp(min=1e-12)
