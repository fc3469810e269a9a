"""What a course minimises: the likelihood of replies, with or without a teacher, or of the better reply of two.

Logits are computed where something is learnt and nowhere else: over a vocabulary of thousands they are a third of a
step. Rows are padded on the right, so causal attention alone keeps padding out of what is read.
Shapes: B rows, T tokens, K learnt tokens, H hidden size, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from safetylayers.tiny.batches import IGNORED, Batch

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast


def likelihood_loss(model: LlamaForCausalLM, batch: Batch) -> Tensor:
    """Return the mean negative log-likelihood of the learnt tokens."""
    logits_KV, targets_K, _ = _learnt(model, batch)
    return F.cross_entropy(logits_KV, targets_K)


@dataclass(frozen=True)
class DistillationLoss:
    """The likelihood of replies, and a teacher's word on whether to refuse (arXiv 1503.02531).

    The teacher's odds say how much of the probability of a reply's first token belongs to refusals.
    """

    begins: Tensor
    """The tokens that a refusal begins with."""

    def __call__(self, model: LlamaForCausalLM, batch: Batch) -> Tensor:
        """Return the loss of a batch, some or all of whose rows have a teacher's odds."""
        logits_KV, targets_K, rows_K = _learnt(model, batch)
        likelihood = F.cross_entropy(logits_KV, targets_K)
        begins_K = torch.ones_like(rows_K, dtype=torch.bool)
        begins_K[1:] = rows_K[1:] != rows_K[:-1]
        judged_K = begins_K & ~batch.odds[rows_K].isnan()
        if not judged_K.any():
            return likelihood
        first_BV = logits_KV[judged_K]
        refuse = first_BV[:, self.begins].logsumexp(-1)
        comply = first_BV.index_fill(1, self.begins, -math.inf).logsumexp(-1)
        teacher = torch.sigmoid(batch.odds[rows_K[judged_K]])
        return likelihood + F.binary_cross_entropy_with_logits(refuse - comply, teacher)


@dataclass(frozen=True)
class PreferenceLoss:
    """Direct preference optimisation (arXiv 2305.18290, equation 7), with the likelihood of the better reply added.

    The first half of a batch's rows are the better replies, the second half the worse ones to the same requests.
    """

    reference: LlamaForCausalLM
    """The model before this course; it is not trained."""
    beta: float = 0.1

    def __call__(self, model: LlamaForCausalLM, batch: Batch) -> Tensor:
        """Return the loss of a batch of pairs."""
        logprobs_K, rows_K = _token_logprobs(model, batch)
        with torch.no_grad():
            reference_K, _ = _token_logprobs(self.reference, batch)
        pairs = len(batch.input_ids) // 2
        gain_B = torch.zeros(2 * pairs).index_add(0, rows_K, logprobs_K - reference_K)
        preference = -F.logsigmoid(self.beta * (gain_B[:pairs] - gain_B[pairs:])).mean()
        return preference - logprobs_K[rows_K < pairs].mean()


def first_tokens(replies: Sequence[str], tokenizer: PreTrainedTokenizerFast) -> Tensor:
    """Return the distinct tokens that the replies begin with."""
    return torch.tensor(sorted({tokenizer(reply, add_special_tokens=False).input_ids[0] for reply in replies}))


def _token_logprobs(model: LlamaForCausalLM, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return log P of every learnt token and the row it stands in: both [K]."""
    logits_KV, targets_K, rows_K = _learnt(model, batch)
    return -F.cross_entropy(logits_KV, targets_K, reduction="none"), rows_K


def _learnt(model: LlamaForCausalLM, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Return the logits of every learnt token, the token, and the row it stands in, rows in order."""
    hidden_BTH: Tensor = model.model(input_ids=batch.input_ids, use_cache=False).last_hidden_state
    targets_BT = batch.labels[:, 1:]
    learnt_BT = targets_BT != IGNORED
    return model.lm_head(hidden_BTH[:, :-1][learnt_BT]), targets_BT[learnt_BT], learnt_BT.nonzero()[:, 0]
