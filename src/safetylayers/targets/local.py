"""A model in this process as a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safetylayers.errors import UsageError
from safetylayers.prompts import Template, render
from safetylayers.records import ProgressCallback
from safetylayers.targets.base import Reply

if TYPE_CHECKING:
    from safetylayers.models import ChatModel


@dataclass(frozen=True)
class ModelTarget:
    """Replies greedily."""

    model: ChatModel
    """With safety layers on, where it is a `GuardedModel`."""
    template: Template = "chat"
    max_new_tokens: int = 48

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    @property
    def weights_hash(self) -> str:
        """The model's hash."""
        return self.model.weights_hash

    def reply(
        self,
        prompts: Sequence[str],
        *,
        openings: Sequence[str] | None = None,
        progress: ProgressCallback | None = None,
    ) -> list[Reply]:
        """Return a reply for each prompt, made in batches. Raises UsageError."""
        begun = checked_openings(prompts, openings)
        rendered = render(prompts, self.model.tokenizer, self.template)
        texts = [text + opening for text, opening in zip(rendered, begun, strict=True)]
        replies = self.model.generate(texts, max_new_tokens=self.max_new_tokens, progress=progress)
        counts = [len(ids) for ids in self.model.tokenizer([*texts, *replies], add_special_tokens=False).input_ids]
        return [
            Reply(reply, tokens=read + wrote)
            for reply, read, wrote in zip(replies, counts[: len(texts)], counts[len(texts) :], strict=True)
        ]


def checked_openings(prompts: Sequence[str], openings: Sequence[str] | None) -> Sequence[str]:
    """Return an opening for each prompt, empty ones where none are given.

    Raises:
        UsageError: they are not as many as the prompts.
    """
    if openings is None:
        return [""] * len(prompts)
    if len(openings) != len(prompts):
        raise UsageError(f"{len(prompts)} prompts but {len(openings)} openings.", mend="Give one opening a prompt.")
    return openings
