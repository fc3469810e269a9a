"""What a course minimises: the likelihood of replies, or of the better reply of two.

Logits are computed where something is learnt and nowhere else: over a vocabulary of thousands they are a third of a
step. Rows are padded on the right, so causal attention alone keeps padding out of what is read.
Shapes: B rows, T tokens, K learnt tokens, H hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from safetylayers.tiny.batches import IGNORED, Batch

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM


def likelihood_loss(model: LlamaForCausalLM, batch: Batch) -> Tensor:
    """Return the mean negative log-likelihood of the learnt tokens."""
    return -_token_logprobs(model, batch)[0].mean()


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


def _token_logprobs(model: LlamaForCausalLM, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return log P of every learnt token and the row it stands in: both [K]."""
    hidden_BTH: Tensor = model.model(input_ids=batch.input_ids, use_cache=False).last_hidden_state
    targets_BT = batch.labels[:, 1:]
    learnt_BT = targets_BT != IGNORED
    logits_KV = model.lm_head(hidden_BTH[:, :-1][learnt_BT])
    return -F.cross_entropy(logits_KV, targets_BT[learnt_BT], reduction="none"), learnt_BT.nonzero()[:, 0]
