"""How replies are generated: greedily, or as draws that do not depend on how replies are batched.

The likeliest token after Gumbel noise is a token drawn by its probability (the Gumbel-max trick: Maddison et al. 2014,
"A* Sampling"), so greedy generation with noise on its logits is sampling. Each reply has noise of its own, by a seed of
its own. A CUDA device draws other noise than a CPU does.

Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import GenerationConfig


class GumbelNoise:
    """Makes greedy choice a draw at a temperature; what transformers calls a logits processor."""

    def __init__(self, seeds: Sequence[str], temperature: float) -> None:
        """Take a seed a row."""
        self.seeds, self.temperature = seeds, temperature
        self.generators: list[torch.Generator] = []

    def __call__(self, input_ids: Tensor, scores_BV: Tensor) -> Tensor:
        """Return logits + temperature * noise: in the order of logits / temperature + noise, with no small divisor."""
        del input_ids
        if not self.generators:  # logits need not be where the model's inputs are
            self.generators = [_generator(seed, scores_BV.device) for seed in self.seeds]
        noise_BV = torch.empty_like(scores_BV, dtype=torch.float32)
        for row_V, generator in zip(noise_BV, self.generators, strict=True):
            row_V.exponential_(generator=generator)
        # The negative logarithm of an exponential variable is Gumbel's.
        noise_BV.clamp_min_(torch.finfo(torch.float32).tiny).log_()
        return scores_BV.float() - self.temperature * noise_BV


def _generator(seed: str, device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(random.Random(seed).getrandbits(63))  # noqa: S311 - not a secret


def greedy(max_new_tokens: int, ends: Sequence[int], pad: int | None) -> GenerationConfig:
    """Return settings for greedy generation by nothing but the logits; without a pad the first end serves."""
    from transformers import GenerationConfig

    # What is left out here, transformers fills in from the model's own configuration, penalties and all.
    return GenerationConfig(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        min_length=0,
        suppress_tokens=[],
        begin_suppress_tokens=[],
        eos_token_id=list(ends) or None,
        pad_token_id=ends[0] if pad is None and ends else pad,
    )


def until_end(tokens: Sequence[int], ends: Collection[int]) -> list[int]:
    """Return a reply's tokens with its end; what comes after it is padding."""
    return list(tokens[: next((place + 1 for place, token in enumerate(tokens) if token in ends), len(tokens))])
