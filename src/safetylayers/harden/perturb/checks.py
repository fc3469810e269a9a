"""What says whether a text asks for harm: a safety map's probe, the model's own refusal, or any function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from safetylayers.errors import UsageError
from safetylayers.evaluate import Judge, PatternJudge, Verdict
from safetylayers.harden.perturb.prefixes import last_states
from safetylayers.prompts import Template, render
from safetylayers.records import ProgressCallback

if TYPE_CHECKING:
    from torch import Tensor

    from safetylayers.locate import SafetyMap
    from safetylayers.models import ChatModel
    from safetylayers.targets import Target


class Checked(NamedTuple):
    """What a check says of one group of texts."""

    scores: list[float]
    """Of each text: harm grows with it."""
    tokens: int = 0
    """That were read for it; 0 where that is not known."""


class Check(Protocol):
    """Scores texts for harm, those of a group together: they are erasures of one prompt, the whole one first."""

    @property
    def name(self) -> str:
        """How results call it, with all that decides its scores."""
        ...

    @property
    def threshold(self) -> float:
        """A text asks for harm where its score is above; a score that is no number is above."""
        ...

    def score(self, groups: Sequence[Sequence[str]], *, progress: ProgressCallback | None = None) -> list[Checked]:
        """Return a score for each text of each group."""
        ...


@dataclass(frozen=True)
class ProbeCheck:
    """The safety map's probe at one layer: log-odds that a text asks for harm, one forward pass up to that layer.

    What erased texts have in common with the whole one is read once, where the model's cache allows it.
    """

    model: ChatModel
    layer: int
    weights_H: Tensor
    bias: float
    threshold: float
    template: Template = "chat"

    @classmethod
    def of(cls, model: ChatModel, found: SafetyMap, *, layer: int | None = None) -> ProbeCheck:
        """Take a map's probe, by itself the one of the highest AUROC, with its own threshold for whole prompts.

        Raises:
            WrongModelError: the map is another model's.
            UsageError: there is no such layer.
        """
        found.check(model)
        probes = found.record.probes
        best = max(range(len(probes)), key=lambda place: probes[place].auroc) if layer is None else layer
        if not 0 <= best < len(probes):
            raise UsageError(f"There is no layer {best}.", mend=f"The map has layers 0 to {len(probes) - 1}.")
        return cls(
            model, best, found.tensors["probe_weights"][best], float(found.tensors["probe_bias"][best]),
            probes[best].threshold, found.record.template,
        )  # fmt: skip

    @property
    def name(self) -> str:
        """Layer and threshold."""
        return f"probe {self.layer} of {self.model.weights_hash[:12]} above {self.threshold:.6g}"

    def score(self, groups: Sequence[Sequence[str]], *, progress: ProgressCallback | None = None) -> list[Checked]:
        """Return log-odds."""
        tokenizer = self.model.tokenizer
        ids = [
            tokenizer(render(group, tokenizer, self.template), add_special_tokens=False).input_ids for group in groups
        ]
        states, tokens = last_states(self.model, ids, self.layer, progress=progress)
        return [
            Checked((states_BH @ self.weights_H.to(states_BH) + self.bias).tolist(), count)
            for states_BH, count in zip(states, tokens, strict=True)
        ]


@dataclass(frozen=True)
class FunctionCheck:
    """Any function of texts: a classifier, a guard, a judge. It says yes or no of each."""

    name: str
    function: Callable[[Sequence[str]], Sequence[bool]]
    threshold: float = 0.5

    def score(self, groups: Sequence[Sequence[str]], *, progress: ProgressCallback | None = None) -> list[Checked]:
        """Return 1 for yes and 0 for no. Raises UsageError where the function does not answer for every text."""
        del progress
        answers = list(self.function([text for group in groups for text in group]))
        if len(answers) != sum(map(len, groups)):
            raise UsageError(f"The check {self.name!r} gives {len(answers)} answers.", mend="It owes one a text.")
        following = iter(answers)
        return [Checked([float(next(following)) for _ in group]) for group in groups]


def refusal_check(target: Target, judge: Judge | None = None) -> FunctionCheck:
    """Return a check by the target's own replies: a text that it refuses asks for harm. A reply a text."""
    judged = judge or PatternJudge()

    def refuses(texts: Sequence[str]) -> list[bool]:
        replies = target.reply(texts)
        verdicts = judged.judge(texts, [reply.text for reply in replies])
        return [reply.withheld or verdict is Verdict.REFUSED for reply, verdict in zip(replies, verdicts, strict=True)]

    return FunctionCheck(f"refusal of {target.name} by {judged.name}", refuses)
