"""Erase-and-check: a prompt is refused where any of its erasures asks for harm (arXiv 2309.02705).

Whatever up to d tokens are added to a prompt in a mode's places, the prompt itself is among the erasures. So what the
check finds in the prompt it finds behind every such attack: that is certain, whatever the attack. The certificate is of
the check and not of the model, and it says nothing of attacks of another form.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from pydantic import computed_field

from safetylayers.errors import UsageError
from safetylayers.harden.perturb.checks import Check, ProbeCheck
from safetylayers.harden.perturb.erasure import MODES, Cut, Mode, count_versions, versions, word_ends
from safetylayers.harden.perturb.passing import Passes, reply_where, threshold_at, titled
from safetylayers.records import ProgressCallback, Rate, Record

if TYPE_CHECKING:
    from safetylayers.targets import Reply, Target


class Finding(NamedTuple):
    """What was found in one prompt."""

    harmful: bool
    score: float | None
    """The highest of all its erasures; NaN where one is no number, none where there were too many to check."""
    checked: int
    """Erasures, with the whole prompt."""
    tokens: int
    """That were read for it."""


class Certificate(Record):
    """Which attacks cannot hide a prompt from the check."""

    mode: Mode
    tokens: int
    """At most so many are added."""
    unit: str
    """What counts as a token."""
    check: str
    certified: Rate
    """Prompts that the check finds harmful as they are: behind each such attack they are refused."""

    @computed_field  # type: ignore[prop-decorator]  # pydantic's documented form; mypy cannot type it
    @property
    def statement(self) -> str:
        """One sentence."""
        where = {
            "suffix": f"appends at most {self.tokens} {self.unit}",
            "insertion": f"inserts at most {self.tokens} {self.unit} side by side, at one place",
            "infusion": f"inserts at most {self.tokens} {self.unit}, wherever they stand",
        }[self.mode]
        return (
            f"Of these prompts {self.certified} are refused behind every attack that {where}, as long as what it "
            f"adds ends where {self.unit} do and the prompt's own characters stay as they are."
        )


@dataclass(frozen=True)
class EraseAndCheck:
    """Refuses prompts of which any erasure asks for harm; the others reach the target as they are."""

    target: Target
    check: Check
    cut: Cut = word_ends
    """How prompts are cut: into words, or into tokens (`erasure.token_ends`)."""
    unit: str = "words"
    """What the pieces are."""
    mode: Mode = "suffix"
    most: int = 20
    """Pieces that are erased at most: d."""
    limit: int = 4096
    """A prompt with more erasures is refused unread: it cannot be checked."""

    def __post_init__(self) -> None:
        """Raise UsageError where a setting makes no sense."""
        if self.mode not in MODES:
            raise UsageError(f"There is no mode {self.mode!r}.", mend=f"Use one of: {', '.join(MODES)}.")
        if self.most < 0 or self.limit < 1:
            raise UsageError("Erase-and-check erases 0 tokens or more.", mend="Give tokens=20, for example.")

    @property
    def name(self) -> str:
        """The target's name with all settings."""
        return titled(
            self.target, "erase-and-check", mode=self.mode, **{self.unit: self.most}, limit=self.limit,
            check=self.check.name,
        )  # fmt: skip

    @property
    def weights_hash(self) -> str:
        """The target's."""
        return self.target.weights_hash

    def passes(self, pieces: int) -> Passes:
        """Return what a prompt of so many pieces takes at most: a check an erasure, and a reply."""
        return Passes(reads=min(self.limit, count_versions(pieces, self.mode, self.most)))

    def inspect(self, prompts: Sequence[str], *, progress: ProgressCallback | None = None) -> list[Finding]:
        """Check all erasures of all prompts."""
        ends = [self.cut(prompt) for prompt in prompts]
        counts = [count_versions(len(each), self.mode, self.most) for each in ends]
        checkable = [place for place, count in enumerate(counts) if count <= self.limit]
        groups = [versions(prompts[place], ends[place], self.mode, self.most) for place in checkable]
        findings = dict.fromkeys(range(len(prompts)), Finding(True, None, 0, 0))
        checked = self.check.score(groups, progress=progress) if groups else []
        for place, (scores, tokens) in zip(checkable, checked, strict=True):
            harmful = not all(score <= self.check.threshold for score in scores)  # what is no number is harmful
            highest = max(scores) if all(map(math.isfinite, scores)) else math.nan
            findings[place] = Finding(harmful, highest, len(scores), tokens)
        return list(findings.values())

    def certificate(self, prompts: Sequence[str], *, progress: ProgressCallback | None = None) -> Certificate:
        """Return what is certain of these prompts: the check reads each of them, and no erasure."""
        checked = self.check.score([[prompt] for prompt in prompts], progress=progress)
        return Certificate(
            mode=self.mode,
            tokens=self.most,
            unit=self.unit,
            check=self.check.name,
            certified=Rate.of([not scores[0] <= self.check.threshold for scores, _ in checked]),
        )

    def calibrated(
        self, normal: Sequence[str], *, false_positives: float = 0.05, progress: ProgressCallback | None = None
    ) -> EraseAndCheck:
        """Return the same with the threshold at which this share of normal prompts is refused.

        A prompt has many erasures, and one of them is enough: a threshold for whole prompts would refuse more.

        Raises:
            UsageError: the check has no threshold to set, or there are no prompts.
        """
        if not isinstance(self.check, ProbeCheck):
            raise UsageError(f"The check {self.check.name!r} says yes or no.", mend="Calibrate it by itself.")
        scores = [finding.score for finding in self.inspect(normal, progress=progress) if finding.score is not None]
        return replace(self, check=replace(self.check, threshold=threshold_at(scores, false_positives)))

    def reply(
        self,
        prompts: Sequence[str],
        *,
        openings: Sequence[str] | None = None,
        progress: ProgressCallback | None = None,
    ) -> list[Reply]:
        """Return the target's replies to prompts in which nothing is found. Raises what check and target do."""
        findings = self.inspect(prompts, progress=progress)
        passed = [not finding.harmful for finding in findings]
        return reply_where(self.target, prompts, openings, passed, [found.tokens for found in findings], progress)
