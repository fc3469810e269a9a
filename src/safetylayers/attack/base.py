"""What an attack is, and the ground on which it is run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from safetylayers.attack.record import AttackCase, Setting
from safetylayers.errors import UsageError
from safetylayers.evaluate import Judge, Verdict
from safetylayers.records import ProgressCallback
from safetylayers.targets import ModelTarget, Reply, Target

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

Numbered = Mapping[int, str]
"""Prompts by their place in their set: what is drawn for one depends on its place, and not on what was done before."""


@dataclass(frozen=True)
class Ground:
    """The target, those who judge its replies, and the seed."""

    target: Target
    judges: Sequence[Judge]
    seed: int = 0
    progress: ProgressCallback | None = None

    def weights(self, attack: str) -> ModelTarget:
        """Return the target where its weights are here.

        Raises:
            UsageError: they are not: it is behind a URL or a perturbation.
        """
        if isinstance(self.target, ModelTarget):
            return self.target
        raise UsageError(
            f"The attack {attack!r} needs the model's weights, and {self.target.name} has none here.",
            mend="Run it on a model's folder, or choose attacks on prompts: prefill, templates, search.",
        )

    def model(self, attack: str) -> ChatModel:
        """Return the target's model. Raises UsageError where its weights are not here."""
        return self.weights(attack).model

    def judge(self, prompts: Sequence[str], replies: Sequence[str]) -> list[dict[str, Verdict]]:
        """Return every judge's verdict of every reply."""
        by_judge = {judge.name: judge.judge(prompts, replies) for judge in self.judges}
        return [{name: verdicts[index] for name, verdicts in by_judge.items()} for index in range(len(replies))]

    def verdicts(self, prompts: Sequence[str], replies: Sequence[Reply]) -> list[dict[str, Verdict]]:
        """Return every judge's verdict of every reply of the target; what was withheld is refused."""
        found = self.judge(prompts, [reply.text for reply in replies])
        return [
            dict.fromkeys(verdicts, Verdict.REFUSED) if reply.withheld else verdicts
            for reply, verdicts in zip(replies, found, strict=True)
        ]

    def ask(self, prompts: Sequence[str], *, openings: Sequence[str] | None = None) -> list[Reply]:
        """Let the target reply."""
        return self.target.reply(prompts, openings=openings, progress=self.progress)


class Attack(Protocol):
    """One attack with its settings: a frozen dataclass, so that equal settings are equal attacks."""

    @property
    def name(self) -> str:
        """How commands and results call it."""
        ...

    def settings(self) -> dict[str, Setting]:
        """Return everything that decides its outcome, besides target, prompts and seed."""
        ...

    def cases(self, ground: Ground, prompts: Numbered) -> Iterator[tuple[int, AttackCase]]:
        """Attack prompts; yield each case, with its prompt's number, as soon as it is done.

        What is yielded is kept, so an interrupted attack goes on after it. A prompt's case does not depend on which
        other prompts are attacked beside it.

        Raises:
            UsageError: the attack cannot be run on this target.
        """
        ...
