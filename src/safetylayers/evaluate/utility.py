"""What safety must not cost: right answers, likeness to reference replies, and ease with real text."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from typing import TYPE_CHECKING

from safetylayers.errors import UsageError
from safetylayers.records import Estimate, ProgressCallback

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_MINUS = re.compile(r"(?<![\w.)])[-\u2212](?=\.?\d)")
_LEAD_IN = re.compile(
    r"^(?:sure|yes|well|ok|okay|certainly|of course)\b[\s,.!:]*(?:the answer is)?[\s:]*|^(?:the )?answer:\s*",
    re.IGNORECASE,
)
_NUMBERED = re.compile(r"^\s*1[.)]\s.*\n\s*2[.)]\s")


def is_exact_match(reply: str, answer: str) -> bool:
    """Whether the reply's leading statement is the answer.

    After SQuAD's normalisation (case, punctuation, articles; arXiv 1606.05250), the reply's first sentence has to be
    the answer, to end with it as the completion of a statement ("The capital of France is Paris."), or to have it as
    its subject ("Paris is the capital of France."). A list that names the answer among others is no match.
    """
    if _NUMBERED.search(reply):
        return False
    # "Sure!" leads in to a statement; "Yes." alone is one.
    statement = _LEAD_IN.sub("", reply.strip()) or reply.strip()
    sentence = re.split(r"(?<=[.!?])\s|\n", statement, maxsplit=1)[0]
    said, wanted = normalise(sentence), normalise(answer)
    if wanted in (said, normalise(reply)):
        return bool(wanted)
    states = rf"(?:^|.*\b(?:is|are|was|were|equals|has|have|called|says|makes)\s+){re.escape(wanted)}$"
    names = rf"^{re.escape(wanted)}\s+(?:is|are|was|were|comes|follows)\b(?! not\b)"
    return bool(wanted) and bool(re.search(states, said) or re.search(names, said))


def normalise(text: str) -> str:
    """Return the text in lower case, without punctuation, articles and extra spaces; a minus sign is a word."""
    spelt = re.sub(r"\b(it|that|what|answer)['\u2019]s\b", r"\1 is", text.lower()).replace("=", " equals ")
    spelt = _MINUS.sub("minus ", spelt)
    plain = "".join(" " if character in string.punctuation else character for character in spelt)
    return " ".join(_ARTICLES.sub(" ", plain).split())


def rouge_l(replies: Sequence[str], references: Sequence[str], *, seed: int = 0) -> Estimate:
    """Return the mean ROUGE-L F-measure (Lin 2004) of replies against references, with a bootstrap interval.

    Raises:
        UsageError: there are not equally many of both, or none.
    """
    from rouge_score.rouge_scorer import RougeScorer

    if len(replies) != len(references) or not replies:
        raise UsageError(
            f"{len(replies)} replies but {len(references)} references.", mend="Give one reference a reply."
        )
    scorer = RougeScorer(["rougeL"])
    values = [
        scorer.score(reference, reply)["rougeL"].fmeasure for reply, reference in zip(replies, references, strict=True)
    ]
    return Estimate.of(values, seed=seed)


def perplexity(
    model: ChatModel, texts: Sequence[str], replies: Sequence[str], *, progress: ProgressCallback | None = None
) -> Estimate:
    """Return exp of the mean negative log-probability a token of given replies; the interval is over replies."""
    import numpy as np

    from safetylayers.stats import percentile_interval, resample_indices

    logprobs = model.reply_logprobs(texts, replies, progress=progress)
    sums = np.array([float(tokens.sum()) for tokens in logprobs])
    lengths = np.array([len(tokens) for tokens in logprobs])
    draws = resample_indices(len(sums), 2_000, seed=0)
    low, high = percentile_interval(np.exp(-sums[draws].sum(axis=1) / lengths[draws].sum(axis=1)))
    return Estimate(mean=float(np.exp(-sums.sum() / lengths.sum())), low=low, high=high, total=len(sums))
