"""A filter by perplexity: prompts that no person would type are refused (arXiv 2308.14132; 2309.00614, section 4.1).

The score is the highest mean surprise (-log P of a token, in nats) of any `window` tokens in a row of the user's text,
of the whole text where it is shorter: e to its power is the window's perplexity. Jailbreaks in plain language pass, and
so does whatever an attacker has made likely on purpose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from safetylayers.errors import UsageError
from safetylayers.harden.perturb.frame import framed
from safetylayers.harden.perturb.passing import Passes, reply_where, threshold_at, titled
from safetylayers.models.batching import run_batched
from safetylayers.prompts import Template
from safetylayers.records import ProgressCallback

if TYPE_CHECKING:
    from safetylayers.models import ChatModel
    from safetylayers.targets import Reply, Target

LOGITS = 2**27
"""So many logits are held at once."""


class Scored(NamedTuple):
    """A prompt's score, and how many tokens were read for it."""

    surprise: float
    tokens: int


@dataclass(frozen=True)
class Surprise:
    """A model's surprise at prompts."""

    model: ChatModel
    window: int = 10
    """Tokens; 0 takes the whole prompt as one."""
    template: Template = "chat"

    def __post_init__(self) -> None:
        """Raise UsageError where the window is none."""
        if self.window < 0:
            raise UsageError(f"{self.window} is no window.", mend="Give tokens, or 0 for the whole prompt.")

    def of(self, texts: Sequence[str], *, progress: ProgressCallback | None = None) -> list[Scored]:
        """Return each prompt's score: one forward pass a prompt."""
        tokenizer = self.model.tokenizer
        parts = [
            [tokenizer(part, add_special_tokens=False).input_ids if part else [] for part in (each[0], each[1])]
            for each in framed(texts, tokenizer, self.template)
        ]
        lengths = [len(before) + len(text) for before, text in parts]
        columns = self.model.model.get_input_embeddings().get_parameter("weight").shape[0]
        rows = max(1, min(self.model.batch_size, LOGITS // (columns * max(lengths, default=1))))
        return run_batched(
            lengths, rows, lambda indices: self._work([parts[index] for index in indices]),
            what="perplexity", progress=progress,
        )  # fmt: skip

    def _work(self, parts: Sequence[Sequence[list[int]]]) -> list[Scored]:
        read = [place for place, (before, text) in enumerate(parts) if len(before) + len(text) > 1 and text]
        scores = [Scored(0.0, len(before) + len(text)) for before, text in parts]  # of nothing nobody is surprised
        if not read:
            return scores
        batch = self.model.batch_of([parts[place][0] + parts[place][1] for place in read])
        longest = max(len(parts[place][1]) for place in read)
        with torch.inference_mode():
            logits_BTV = self.model.logits(batch, last=min(longest + 1, batch.input_ids.shape[1]))[:, :-1].float()
            targets_BT = batch.input_ids[:, -logits_BTV.shape[1] :].to(logits_BTV.device)
            surprise_BT = torch.nn.functional.cross_entropy(logits_BTV.mT, targets_BT, reduction="none").double().cpu()
        for place, surprise_T in zip(read, surprise_BT, strict=True):
            before, text = parts[place]
            own = min(len(text), len(before) + len(text) - 1)  # the very first token follows nothing
            scores[place] = Scored(highest_mean(surprise_T[-own:], self.window), len(before) + len(text))
        return scores


def highest_mean(values_T: Tensor, window: int) -> float:
    """Return the highest mean of any `window` values in a row; of all of them where they are fewer, or it is 0."""
    size = len(values_T) if window == 0 else min(window, len(values_T))
    return float(values_T.unfold(0, size, 1).mean(dim=-1).max())


@dataclass(frozen=True)
class PerplexityFilter:
    """Refuses prompts of which a window is too surprising; the others reach the target as they are."""

    target: Target
    surprise: Surprise
    threshold: float
    """Nats a token; a prompt above it, and one whose score is no number, is refused."""

    @classmethod
    def calibrated(
        cls,
        target: Target,
        surprise: Surprise,
        normal: Sequence[str],
        *,
        false_positives: float = 0.01,
        progress: ProgressCallback | None = None,
    ) -> PerplexityFilter:
        """Set the threshold at which this share of normal prompts is refused. Raises UsageError without prompts."""
        scores = [score for score, _ in surprise.of(normal, progress=progress)]
        return cls(target, surprise, threshold_at(scores, false_positives))

    @property
    def name(self) -> str:
        """The target's name with all settings."""
        return titled(
            self.target, "perplexity", window=self.surprise.window, threshold=self.threshold,
            model=self.surprise.model.weights_hash[:12],
        )  # fmt: skip

    @property
    def weights_hash(self) -> str:
        """The target's."""
        return self.target.weights_hash

    def passes(self) -> Passes:
        """Return what a prompt takes: one pass over it, and a reply."""
        return Passes(reads=1)

    def reply(
        self,
        prompts: Sequence[str],
        *,
        openings: Sequence[str] | None = None,
        progress: ProgressCallback | None = None,
    ) -> list[Reply]:
        """Return the target's replies to prompts that pass. Raises what the target does."""
        found = self.surprise.of(prompts, progress=progress)
        passed = [score <= self.threshold for score, _ in found]
        return reply_where(self.target, prompts, openings, passed, [tokens for _, tokens in found], progress)
