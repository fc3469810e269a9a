"""How far the weights go along the way that training found: a knob that costs no training.

Between the original and the trained weights lie models that have changed less (arXiv 2109.01903, section 3); beyond the
trained ones, such that have changed more (2212.04089, section 3).
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from safetylayers.models import ChatModel


def with_strength(before: ChatModel, after: ChatModel, strength: float) -> ChatModel:
    """Return a copy whose weights are before + strength x (after - before); both have to be of one shape."""
    from safetylayers.models import ChatModel

    made = ChatModel(copy.deepcopy(after.model), after.tokenizer, name=after.name)
    original = dict(before.model.named_parameters())
    with torch.no_grad():
        for name, weight in made.model.named_parameters():
            weight.copy_(torch.lerp(original[name].float(), weight.float(), strength))
    return made
