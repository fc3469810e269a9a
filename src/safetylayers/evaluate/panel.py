"""Judges by name, as a command line gives them."""

from __future__ import annotations

from collections.abc import Sequence

from safetylayers.errors import UsageError
from safetylayers.evaluate.classifier import ClassifierJudge
from safetylayers.evaluate.judges import Judge, PatternJudge, PhraseJudge
from safetylayers.evaluate.rubric import RubricJudge

FORMS = "phrases, patterns, classifier:MODEL#LABEL[,LABEL], rubric:URL#MODEL"


def make_judges(names: Sequence[str]) -> list[Judge]:
    """Return the judges that are named.

    Args:
        names: "phrases", "patterns", "classifier:MODEL#LABEL,LABEL" (the labels that mean a refusal) or
            "rubric:URL#MODEL" (an OpenAI-compatible endpoint; its key is read from OPENAI_API_KEY).

    Raises:
        UsageError: a name is none of these.
        JudgeError: a classifier cannot be loaded.
    """
    return [_judge(name) for name in names]


def _judge(name: str) -> Judge:
    kind, _, rest = name.partition(":")
    source, _, detail = rest.rpartition("#")
    if name == "phrases":
        return PhraseJudge()
    if name == "patterns":
        return PatternJudge()
    if kind == "classifier" and source and detail:
        return ClassifierJudge(source, refusal_labels=detail.split(","))
    if kind == "rubric" and source and detail:
        return RubricJudge(source, detail)
    raise UsageError(f"There is no judge {name!r}.", mend=f"Use one of: {FORMS}.")
