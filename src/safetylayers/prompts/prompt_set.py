"""Prompt sets: named, ordered, immutable, and known by their content's hash."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from safetylayers.errors import UsageError


@dataclass(frozen=True)
class Prompt:
    """One request to a model, as its user typed it."""

    id: str
    text: str
    category: str = ""
    answer: str = ""
    """What a checkable question's reply has to say; empty where there is nothing to check."""
    split: str = ""
    """"train", "calibration" or "test" in the built-in sets; empty elsewhere."""


@dataclass(frozen=True)
class PromptSet:
    """Prompts in a fixed order, under the name that reports show."""

    name: str
    prompts: tuple[Prompt, ...]

    def __len__(self) -> int:
        return len(self.prompts)

    def __iter__(self) -> Iterator[Prompt]:
        return iter(self.prompts)

    @property
    def texts(self) -> list[str]:
        """The requests themselves."""
        return [prompt.text for prompt in self.prompts]

    @property
    def categories(self) -> list[str]:
        """Every category once, in order of appearance."""
        return list(dict.fromkeys(prompt.category for prompt in self.prompts))

    @property
    def content_hash(self) -> str:
        """SHA-256 over texts and answers in order; names and categories do not count."""
        return content_hash([[prompt.text, prompt.answer] for prompt in self.prompts])

    def split(self, name: str) -> PromptSet:
        """Return the prompts of one split, as `NAME/SPLIT`.

        Raises:
            UsageError: no prompt is marked with that split.
        """
        chosen = tuple(prompt for prompt in self.prompts if prompt.split == name)
        if not chosen:
            known = sorted({prompt.split for prompt in self.prompts if prompt.split})
            raise UsageError(
                f"The prompt set {self.name!r} has no split {name!r}.",
                mend=f"Its splits: {', '.join(known)}." if known else "It has no splits: use it whole.",
            )
        return PromptSet(f"{self.name}/{name}", chosen)

    def take(self, count: int) -> PromptSet:
        """Return the first `count` prompts, or all of them where there are fewer."""
        return replace(self, prompts=self.prompts[:count])

    def sample(self, count: int, seed: int) -> PromptSet:
        """Return `count` prompts drawn without replacement; all of them, shuffled, where there are fewer."""
        drawn = random.Random(seed).sample(self.prompts, min(count, len(self.prompts)))  # noqa: S311 - not a secret
        return replace(self, prompts=tuple(drawn))

    def __add__(self, other: PromptSet) -> PromptSet:
        return PromptSet(f"{self.name}+{other.name}", self.prompts + other.prompts)


def content_hash(rows: list[list[str]]) -> str:
    """Return the SHA-256 of rows of strings, as hex digits."""
    return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()
