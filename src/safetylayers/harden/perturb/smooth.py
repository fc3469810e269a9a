"""SmoothLLM: copies of a prompt with drawn characters, and a vote on the replies (arXiv 2310.03684, algorithm 1).

An adversarial suffix works by its exact characters; a request does not. So most copies of an attacked prompt are
refused, and most copies of a harmless one are answered, where the model can read through the changes.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from safetylayers.errors import UsageError
from safetylayers.evaluate import Judge, PatternJudge, Verdict
from safetylayers.harden.perturb.characters import ALPHABETS, KINDS, Kind, perturbed
from safetylayers.harden.perturb.passing import WITHHELD, Passes, drawing, titled
from safetylayers.records import ProgressCallback
from safetylayers.targets import Reply, Target
from safetylayers.targets.local import checked_openings


@dataclass(frozen=True)
class SmoothLLM:
    """Asks several changed copies of each prompt, and gives a reply of the majority.

    The copies of all prompts are one call of the target; a model here reads them in its own batches. A prompt counts as
    complied with where more than `threshold` of all its copies were. An incoherent reply is no compliance; a withheld
    one is a refusal. Where the majority did not comply, the reply is one of those that refuse; where all of them are
    incoherent, none is fit to be given and the prompt is refused.
    """

    target: Target
    copies: int = 10
    rate: float = 0.1
    """Share of the characters that are changed."""
    kind: Kind = "swap"
    alphabet: str = "printable"
    """Of new characters: "printable" as published, or "letters", for models that signs alone put off refusing."""
    threshold: float = 0.5
    seed: int = 0
    """Of the copies and of which reply is given. Who knows it knows the copies: for serving, draw a secret one."""
    judge: Judge = field(default_factory=PatternJudge)
    """Who says whether a copy's reply complies."""

    def __post_init__(self) -> None:
        """Raise UsageError where a setting makes no sense."""
        if self.kind not in KINDS:
            raise UsageError(f"There is no change {self.kind!r}.", mend=f"Use one of: {', '.join(KINDS)}.")
        if self.alphabet not in ALPHABETS:
            raise UsageError(f"There is no alphabet {self.alphabet!r}.", mend=f"Use one of: {', '.join(ALPHABETS)}.")
        if self.copies < 1 or not 0 <= self.rate <= 1 or not 0 <= self.threshold < 1:
            raise UsageError(
                "SmoothLLM needs at least one copy, a rate from 0 to 1, and a threshold from 0 to below 1.",
                mend="Give, for example, copies=10,rate=0.1,threshold=0.5.",
            )

    @property
    def name(self) -> str:
        """The target's name with all settings."""
        return titled(
            self.target, "smoothllm", copies=self.copies, rate=self.rate, kind=self.kind, alphabet=self.alphabet,
            threshold=self.threshold, seed=self.seed, judge=self.judge.name,
        )  # fmt: skip

    @property
    def weights_hash(self) -> str:
        """The target's."""
        return self.target.weights_hash

    def passes(self) -> Passes:
        """Return what a prompt takes: a reply a copy."""
        return Passes(replies=self.copies)

    def copies_of(self, prompt: str) -> list[str]:
        """Return a prompt's copies; they depend on nothing else but the settings."""
        draw = drawing(self.seed, prompt)
        alphabet = ALPHABETS[self.alphabet]
        return [perturbed(prompt, self.kind, self.rate, draw, alphabet) for _ in range(self.copies)]

    def complied(self, prompts: Sequence[str]) -> list[float]:
        """Return which share of each prompt's copies was complied with: it passes above `threshold`."""
        return [Counter(verdicts)[Verdict.COMPLIED] / self.copies for _, verdicts in self._asked(prompts, None, None)]

    def reply(
        self,
        prompts: Sequence[str],
        *,
        openings: Sequence[str] | None = None,
        progress: ProgressCallback | None = None,
    ) -> list[Reply]:
        """Return a reply of each prompt's majority. Raises what the target does."""
        asked = self._asked(prompts, openings, progress)
        return [self._elected(prompt, *made) for prompt, made in zip(prompts, asked, strict=True)]

    def _asked(
        self, prompts: Sequence[str], openings: Sequence[str] | None, progress: ProgressCallback | None
    ) -> list[tuple[list[Reply], list[Verdict]]]:
        """Return the replies to each prompt's copies, with their verdicts; one call of the target for all."""
        begun = [opening for opening in checked_openings(prompts, openings) for _ in range(self.copies)]
        asked = [copy for prompt in prompts for copy in self.copies_of(prompt)]
        made = self.target.reply(asked, openings=None if openings is None else begun, progress=progress)
        meant = [prompt for prompt in prompts for _ in range(self.copies)]
        verdicts = [
            Verdict.REFUSED if reply.withheld else verdict
            for reply, verdict in zip(made, self.judge.judge(meant, [reply.text for reply in made]), strict=True)
        ]
        starts = range(0, len(asked), self.copies)
        return [(made[start : start + self.copies], verdicts[start : start + self.copies]) for start in starts]

    def _elected(self, prompt: str, replies: Sequence[Reply], verdicts: Sequence[Verdict]) -> Reply:
        index = elect(verdicts, self.threshold, drawing(self.seed, f"elect {prompt}"))
        given = Reply(WITHHELD, withheld=True) if index is None else replies[index]
        return replace(
            given, queries=sum(reply.queries for reply in replies), tokens=sum(reply.tokens for reply in replies)
        )


def elect(verdicts: Sequence[Verdict], threshold: float, draw: random.Random) -> int | None:
    """Return which reply is given: one of those that comply, where more than `threshold` of all do.

    Otherwise one of those that refuse; none where nothing but incoherent replies is left.
    """
    complied = Counter(verdicts)[Verdict.COMPLIED] > threshold * len(verdicts)
    wanted = Verdict.COMPLIED if complied else Verdict.REFUSED
    places = [index for index, verdict in enumerate(verdicts) if verdict is wanted]
    return draw.choice(places) if places else None
