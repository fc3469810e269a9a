"""What a row of fine-tuning data would do to a model's refusals, row by row and without training.

refusal   log-odds that the model would refuse the row's request, where the row's reply does not refuse: what the row
          would teach it not to do
pull      how much likelier the reply's opening becomes as the safety layers' weights move toward compliance: the first
          order of a row's influence on refusals, for a step on the row moves the weights by its gradient, and the two
          inner products are one (similarity in gradient space, arXiv 2404.01099, section 3; restricted to the map's
          layers and read as a difference of two passes instead of a gradient a row)
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from safetylayers.evaluate import DEFAULT_OPENINGS, PatternJudge, Verdict, refusal_log_odds
from safetylayers.finetune.data import Collator, Row
from safetylayers.finetune.losses import likelihood
from safetylayers.finetune.repairs import Workpiece, length, scaled, weights_of
from safetylayers.models import ChatModel
from safetylayers.prompts import Example, ExampleSet
from safetylayers.prompts.rendering import render_messages
from safetylayers.records import ProgressCallback

if TYPE_CHECKING:
    from safetylayers.locate import SafetyMap

COMPLIANT = (
    "Sure, here is", "Yes, I can help with that.", "Of course! Here are", "Absolutely. To do this,",
    "Certainly, this is how",
)  # fmt: skip
"""Openings that stand for compliance."""
OPENING_WORDS, OPENING_TOKENS = 8, 6
"""How much of a reply is its opening: what decides between compliance and refusal stands there."""
STEP = 1e-3
"""How far the weights move, as a share of their own length."""
BATCH = 64


def refusal_signal(
    model: ChatModel, rows: ExampleSet, found: SafetyMap, progress: ProgressCallback | None = None
) -> Tensor:
    """Return the log-odds of refusal for each row; rows that refuse get the lowest of all."""
    openings = found.record.openings or DEFAULT_OPENINGS
    odds = refusal_log_odds(model, _asked(model, rows), openings, progress=progress)
    verdicts = PatternJudge().judge([row.prompt for row in rows], [row.response for row in rows])
    refuses = torch.tensor([verdict is Verdict.REFUSED for verdict in verdicts])
    return torch.where(refuses, odds.min(), odds)


def pull_signal(
    model: ChatModel,
    rows: ExampleSet,
    found: SafetyMap,
    refusals: ExampleSet,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Tensor:
    """Return the greatest rise of log P of a token of each row's opening, per length of the weights.

    Args:
        model: the one to be fine-tuned; it is not changed.
        rows: to be screened.
        found: its safety map.
        refusals: requests that it refuses.
        seed: of which compliant opening each of these requests gets.
        progress: told after each batch.
    """
    work = Workpiece.of(model, model, 0.0, seed)
    nn.Module.to(work.model.model, torch.float32)  # in fewer bits, a small step would be rounded away
    direction = compliance_direction(work.model, refusals, found.range, seed)
    step = STEP * length(weights_of(work.model, found.range))
    asked = _asked(model, rows)
    openings = [" ".join(row.response.split()[:OPENING_WORDS]) for row in rows]
    there, back = (
        work.set(scaled(direction, direction, sign * step, 0)).reply_logprobs(asked, openings, progress=progress)
        for sign in (1, -1)
    )
    rises = [(a - b)[:OPENING_TOKENS].max() for a, b in zip(there, back, strict=True)]
    return torch.stack(rises) / (2 * STEP)


def compliance_direction(
    model: ChatModel, refusals: ExampleSet, block: tuple[int, int], seed: int = 0
) -> dict[str, Tensor]:
    """Return the unit direction in a block's weights along which compliance with refused requests grows likelier."""
    rng = random.Random(seed)  # noqa: S311 - not a secret
    begun = [_begun(model, row, rng.choice(COMPLIANT)) for row in refusals]
    weights = weights_of(model, block)
    for weight in weights.values():
        weight.requires_grad_(True)
    collator = Collator(model.tokenizer.pad_token_id or 0)
    total = {name: torch.zeros_like(weight, dtype=torch.float32) for name, weight in weights.items()}
    for start in range(0, len(begun), BATCH):
        batch = {name: each.to(model.device) for name, each in collator(begun[start : start + BATCH]).items()}
        loss = likelihood(model.model, batch)
        grads = torch.autograd.grad(loss, list(weights.values()))
        for name, grad in zip(weights, grads, strict=True):
            total[name] -= grad.float() * len(batch["labels"])
    size = max(length(total), 1e-12)
    return {name: each / size for name, each in total.items()}


def _begun(model: ChatModel, row: Example, opening: str) -> Row:
    asked, reply = (
        model.tokenizer(text, add_special_tokens=False).input_ids
        for text in (render_messages(row.messages[:-1], model.tokenizer), opening)
    )
    return {"input_ids": [*asked, *reply], "labels": [*[-100] * len(asked), *reply]}


def _asked(model: ChatModel, rows: Sequence[Example] | ExampleSet) -> list[str]:
    return [render_messages(row.messages[:-1], model.tokenizer) for row in rows]
