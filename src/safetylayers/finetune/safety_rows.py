"""Rows that a model is to go on refusing: malicious requests with its own refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safetylayers.errors import DataError
from safetylayers.evaluate import PatternJudge, Verdict
from safetylayers.prompts import Example, ExampleSet, PromptSet, builtin, render
from safetylayers.records import ProgressCallback

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

TOKENS = 48


def own_refusals(
    model: ChatModel, prompts: PromptSet | None = None, *, progress: ProgressCallback | None = None
) -> ExampleSet:
    """Return malicious requests with what the model replies to them; requests that it does not refuse are left out.

    Args:
        model: as it is before fine-tuning.
        prompts: by themselves the built-in malicious ones' training split.
        progress: told after each batch.

    Raises:
        DataError: it refuses none of them.
    """
    asked = builtin("malicious", "train") if prompts is None else prompts
    replies = model.generate(render(asked.texts, model.tokenizer), max_new_tokens=TOKENS, progress=progress)
    verdicts = PatternJudge().judge(asked.texts, replies)
    rows = tuple(
        Example.of(text, reply)
        for text, reply, verdict in zip(asked.texts, replies, verdicts, strict=True)
        if verdict is Verdict.REFUSED
    )
    if not rows:
        raise DataError(
            f"{model.name} refuses none of the {len(asked)} prompts of {asked.name}: it has no refusals to keep.",
            mend="Give rows with the refusals that you want (--safety), or use an aligned model.",
        )
    return ExampleSet(f"{asked.name}, refused", rows)
