"""Two explanations side by side: of two prompts, or of one prompt before and after a model was changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from safetylayers.errors import UsageError
from safetylayers.explain.explanation import Explanation
from safetylayers.records import Record

MOVED = 0.25
"""On the scale from normal prompts to malicious ones: a difference that is worth a word."""


class Comparison(Record):
    """Two explanations."""

    schema_version: Literal[1] = 1
    kind: Literal["prompts", "models"]
    """What differs between the two."""
    first: Explanation
    second: Explanation

    @property
    def sentence(self) -> str:
        """What differs, in a sentence or two."""
        one, two = self.first.verdict, self.second.verdict
        odds = f"refusal log-odds {one.refusal_log_odds:+.1f} and {two.refusal_log_odds:+.1f}"
        does = ["refuses" if verdict.refused else "answers" for verdict in (one, two)]
        same = does[0] == does[1]
        if self.kind == "prompts":
            what = f"{does[0]} both prompts" if same else f"{does[0]} the first prompt and {does[1]} the second"
            return f"The model {what} ({odds})."
        what = (
            f"Both models {does[0].removesuffix('s')}" if same else f"The first model {does[0]}, the second {does[1]}"
        )
        return " ".join(
            [
                f"{what} ({odds}).",
                f"Along the harm direction they {together(one.harm, two.harm)}.",
                f"Along the refusal direction they {together(one.refusal, two.refusal)}.",
            ]
        )


def together(before: Sequence[float], after: Sequence[float]) -> str:
    """Say how two curves lie to each other, as "part at layer 3"."""
    layer = parted(before, after)
    if layer is not None:
        return f"part at layer {layer}"
    distances = [abs(a - b) for a, b in zip(before, after, strict=True)]
    widest = max(distances, default=0.0)
    return (
        "stay together"
        if widest <= MOVED
        else f"lie furthest apart at layer {distances.index(widest)} and end together"
    )


def parted(before: Sequence[float], after: Sequence[float]) -> int | None:
    """Return the first layer from which on two curves lie apart; None where they end together."""
    apart = [abs(a - b) > MOVED for a, b in zip(before, after, strict=True)]
    if not apart or not apart[-1]:
        return None
    together = [layer for layer, each in enumerate(apart) if not each]
    return together[-1] + 1 if together else 0


def compare(first: Explanation, second: Explanation) -> Comparison:
    """Put two explanations side by side.

    Raises:
        UsageError: they are neither of one model nor of one prompt, the models differ in depth, or the two have other
            yardsticks.
    """
    same_prompt = first.prompt == second.prompt
    if not same_prompt and first.provenance.model_hash != second.provenance.model_hash:
        raise UsageError(
            "The two explanations are of two prompts and of two models: nothing could be said of the difference.",
            mend="Change one of the two at a time.",
        )
    if first.n_layers != second.n_layers:
        raise UsageError(
            f"The models have {first.n_layers} and {second.n_layers} layers.",
            mend="Compare a model with its own fine-tune.",
        )
    if _yardstick(first) != _yardstick(second):
        raise UsageError(
            "The two explanations were made with other openings, another template or another map.",
            mend="Make the second one by Explainer.beside, which keeps the first model's.",
        )
    return Comparison(kind="models" if same_prompt else "prompts", first=first, second=second)


def _yardstick(found: Explanation) -> tuple[object, ...]:
    return found.openings, found.template, found.provenance.data.get("map")
