"""Scores of whole rows, as the running gate would see them. Shapes: T tokens, S attached layers, K heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from safetylayers.attach.calibration import Scored
from safetylayers.attach.heads import Heads, pooled
from safetylayers.attach.rows import LabelledRow
from safetylayers.attach.states import LONGEST
from safetylayers.errors import ModelError
from safetylayers.models.batching import run_batched
from safetylayers.prompts import Template, render
from safetylayers.records import ProgressCallback

if TYPE_CHECKING:
    from safetylayers.models import ChatModel


def score_rows(
    model: ChatModel,
    heads: Heads,
    layers: Sequence[int],
    rows: Sequence[LabelledRow],
    template: Template,
    *,
    progress: ProgressCallback | None = None,
) -> list[Scored]:
    """Score rows with a partial forward pass each; the heads stay on the host.

    Raises:
        ModelError: a score is no number.
    """
    texts = render([row.prompt for row in rows], model.tokenizer, template)
    asked = model.tokenizer(texts, add_special_tokens=False).input_ids
    replied = model.tokenizer([row.reply for row in rows], add_special_tokens=False).input_ids
    tokens = [(a + b)[:LONGEST] for a, b in zip(asked, replied, strict=True)]

    def work(indices: list[int]) -> list[Scored]:
        batch = model.batch_of([tokens[index] for index in indices])
        with model.stop_after(layers[-1]), model.capture(layers) as found:
            model.next_token_logits(batch)
        real_BT = batch.attention_mask.bool().cpu()
        hidden_SNH = torch.stack([found[layer].float().cpu()[real_BT] for layer in layers])
        lengths = [len(tokens[index]) for index in indices]
        segments_N = torch.arange(len(indices)).repeat_interleave(torch.tensor(lengths))
        with torch.no_grad():
            scores_NK = pooled(heads(hidden_SNH), segments_N, len(indices), len(heads.names)).mean(dim=0)
        if not scores_NK.isfinite().all():
            raise ModelError(
                f"{model.name}: heads read scores that are no numbers.",
                mend="Look for NaN in the model's hidden states; a larger dtype may help (--dtype float32).",
            )
        parts = torch.split(scores_NK.double(), lengths)
        return [_cut(part, min(len(asked[index]), LONGEST)) for part, index in zip(parts, indices, strict=True)]

    return run_batched(list(map(len, tokens)), model.batch_size, work, what="scoring", progress=progress)


def _cut(scores_TK: torch.Tensor, prompt_length: int) -> Scored:
    values = scores_TK.numpy()
    return Scored(values[prompt_length - 1], values[prompt_length:])
