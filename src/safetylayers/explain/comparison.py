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
        does = ["refuses" if verdict.refused else "answers" for verdict in (one, two)]
        odds = f"refusal log-odds {one.refusal_log_odds:+.1f} and {two.refusal_log_odds:+.1f}"
        if self.kind == "prompts":
            return f"The model {does[0]} the first prompt and {does[1]} the second ({odds})."
        parts = [f"The first model {does[0]}, the second {does[1]} ({odds})."]
        for name, before, after in (("harm", one.harm, two.harm), ("refusal", one.refusal, two.refusal)):
            layer = parted(before, after)
            if layer is None:
                parts.append(f"Along the {name} direction the two stay together.")
            else:
                parts.append(f"Along the {name} direction they part at layer {layer}.")
        return " ".join(parts)


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
        UsageError: they are neither of one model nor of one prompt, or the models differ in depth.
    """
    same_model = first.provenance.model_hash == second.provenance.model_hash
    if not same_model and first.prompt != second.prompt:
        raise UsageError(
            "The two explanations are of two prompts and of two models: nothing could be said of the difference.",
            mend="Change one of the two at a time.",
        )
    if first.n_layers != second.n_layers:
        raise UsageError(
            f"The models have {first.n_layers} and {second.n_layers} layers.",
            mend="Compare a model with its own fine-tune.",
        )
    return Comparison(kind="prompts" if same_model else "models", first=first, second=second)
