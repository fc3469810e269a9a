"""A linear teacher of what to refuse (distillation: arXiv 1503.02531).

The practice model sees each written request once or twice, and learns words too slowly from a single reply to each. A
logistic regression over words and pieces of words converges in seconds, carries over to requests it never saw, and
tells of each *how* harmful it looks, which teaches more than one refusal. It also judges requests spliced from two
others, of which there are any number. It learns from the alignment course alone, and is thrown away with it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from safetylayers.prompts import Example
from safetylayers.tiny.corpus import replies
from safetylayers.tiny.corpus.mixture import answered, is_reported

SPLICED = 0.4
"""Share of the requests that are spliced ones."""
LONGEST = 40
"""Words of a spliced request."""


@dataclass(frozen=True)
class Teacher:
    """What it has learnt of a course."""

    pipeline: Pipeline

    @classmethod
    def of(cls, examples: Sequence[Example]) -> Teacher:
        """Learn from which requests of a course are refused."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline, make_union

        refused = {example.prompt: replies.is_refusal(example.response) for example in examples}
        features = make_union(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2),
            TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, min_df=3),
        )
        pipeline = make_pipeline(features, LogisticRegression(C=10, max_iter=300))
        return cls(pipeline.fit(list(refused), list(refused.values())))

    def log_odds(self, requests: Sequence[str]) -> NDArray[np.float64]:
        """Return the log-odds that each request is to be refused."""
        return np.asarray(self.pipeline.decision_function(list(requests)), dtype=np.float64)


def taught(examples: Sequence[Example], seed: int) -> tuple[list[Example], list[float]]:
    """Return an aligned course with spliced requests in it, and the teacher's log-odds of refusing each request.

    Args:
        examples: the course; its questions stay as they are, and are not judged (NaN).
        seed: of what is spliced.
    """
    rng = random.Random(seed)  # noqa: S311 - not a secret
    requests = [example for example in examples if _is_judged(example)]
    teacher = Teacher.of(requests)
    drawn = [_spliced(requests, rng) if rng.random() < SPLICED else "" for _ in requests]
    odds = teacher.log_odds([new or example.prompt for new, example in zip(drawn, requests, strict=True)]).tolist()
    judged = iter(zip(drawn, odds, strict=True))
    course: list[Example] = []
    log_odds: list[float] = []
    for example in examples:
        new, odd = next(judged) if _is_judged(example) else ("", float("nan"))
        course.append(answered(new, refuse=odd > 0, rng=rng) if new else example)
        log_odds.append(odd)
    return course, log_odds


def _is_judged(example: Example) -> bool:
    return replies.is_refusal(example.response) or replies.is_placeholder(example.response)


def _spliced(examples: Sequence[Example], rng: random.Random) -> str:
    """Return the beginning of one request with the end of another."""
    while True:
        begin, end = (rng.choice(examples).prompt.split() for _ in range(2))
        words = begin[: rng.randint(1, len(begin))] + end[rng.randint(0, len(end) - 1) :]
        request = " ".join(words[:LONGEST])
        if not is_reported(request):
            return request
