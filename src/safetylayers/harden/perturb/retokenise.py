"""Retokenisation: the same text in smaller, drawn tokens (arXiv 2309.00614, section 4.2).

An adversarial suffix is searched for token by token; in other tokens it is another suffix. The text stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from safetylayers.errors import UsageError
from safetylayers.harden.perturb.dropout import DroppingTokenizer
from safetylayers.harden.perturb.frame import framed
from safetylayers.harden.perturb.passing import Passes, drawing, titled
from safetylayers.records import ProgressCallback
from safetylayers.targets import ModelTarget, Reply
from safetylayers.targets.local import checked_openings


@dataclass(frozen=True)
class Retokenise:
    """Replies to the user's text in drawn tokens; the template's tokens and the opening's stay."""

    target: ModelTarget
    rate: float = 0.4
    """Share of the merges that are left out."""
    seed: int = 0
    """For serving, draw a secret one."""

    def __post_init__(self) -> None:
        """Raise UsageError where the rate is none, or the target has no tokens here."""
        if not 0 <= self.rate <= 1:
            raise UsageError(f"{self.rate} is no share of merges.", mend="Give one from 0 to 1.")
        if not isinstance(self.target, ModelTarget):
            raise UsageError(
                "Retokenising needs the model itself: a server takes text, not tokens.",
                mend="Run it on a model's folder, or use smoothllm or paraphrase.",
            )

    @property
    def name(self) -> str:
        """The target's name with all settings."""
        return titled(self.target, "retokenise", rate=self.rate, seed=self.seed)

    @property
    def weights_hash(self) -> str:
        """The target's."""
        return self.target.weights_hash

    def passes(self) -> Passes:
        """Return what a prompt takes: a reply, to a longer prompt."""
        return Passes()

    @cached_property
    def _dropping(self) -> DroppingTokenizer:
        return DroppingTokenizer.of(self.target.model.tokenizer)

    def token_ids(self, prompts: Sequence[str], openings: Sequence[str] | None = None) -> list[list[int]]:
        """Return what the model reads."""
        tokenizer = self.target.model.tokenizer
        begun = checked_openings(prompts, openings)

        def plain(text: str) -> list[int]:
            return list(tokenizer(text, add_special_tokens=False).input_ids) if text else []

        return [
            plain(parts.before)
            + self._dropping.tokens(parts.text, self.rate, drawing(self.seed, prompt))
            + plain(parts.after + opening)
            for prompt, parts, opening in zip(
                prompts, framed(prompts, tokenizer, self.target.template), begun, strict=True
            )
        ]

    def reply(
        self,
        prompts: Sequence[str],
        *,
        openings: Sequence[str] | None = None,
        progress: ProgressCallback | None = None,
    ) -> list[Reply]:
        """Return a reply for each prompt. Raises UsageError where the tokenizer does not merge pairs."""
        ids = self.token_ids(prompts, openings)
        model, most = self.target.model, self.target.max_new_tokens
        replies = model.generate_after(ids, max_new_tokens=most, progress=progress)
        wrote = model.tokenizer(replies, add_special_tokens=False).input_ids
        return [
            Reply(reply, tokens=len(read) + len(written))
            for reply, read, written in zip(replies, ids, wrote, strict=True)
        ]
