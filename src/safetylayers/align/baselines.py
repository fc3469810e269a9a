"""What a reward has to beat: judges of choices that read no meaning."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from safetylayers.align.accuracy import value_names
from safetylayers.align.bayes import Array, Posterior
from safetylayers.align.folds import Indices, Judge, held_out, prompts_of, right
from safetylayers.prompts.pairs import PairSet
from safetylayers.records import Rate


def baselines(pairs: PairSet, *, seed: int = 0) -> dict[str, Rate]:
    """Return how many held-out choices are told by the replies' lengths, and by a bag of their words.

    Args:
        pairs: choices.
        seed: of the parts in which they are held out.
    """
    return {name: right(p_N) for name, p_N in held_out_baselines(pairs, seed=seed).items()}


def held_out_baselines(pairs: PairSet, *, seed: int = 0) -> dict[str, Array]:
    """Return each baseline's probability of each choice, [N], learned from other prompts. Raises UsageError."""
    return {name: held_out(prompts_of(pairs), judge(pairs), seed) for name, judge in _BASELINES.items()}


def transferred_baselines(learned: PairSet, pairs: PairSet) -> dict[str, Array]:
    """Return each baseline's probability of each choice, [N], a value each learned from other choices.

    Args:
        learned: choices to learn from, about every value that `pairs` are about.
        pairs: choices to be judged.
    """
    found = {name: np.empty(len(pairs)) for name in _BASELINES}
    known, asked = (np.array(value_names(of)) for of in (learned, pairs))
    for value in set(asked.tolist()):
        of = np.flatnonzero(asked == value)
        own = [learned.pairs[index] for index in np.flatnonzero(known == value)]
        both = PairSet(value, (*own, *(pairs.pairs[index] for index in of)))
        train, test = np.split(np.arange(len(both)), [len(own)])
        for name, judge in _BASELINES.items():
            found[name][of] = judge(both)(train, test)
    return found


def _by_length(pairs: PairSet) -> Judge:
    lengths_N1 = np.array([[np.log(len(pair.chosen)) - np.log(len(pair.rejected))] for pair in pairs])

    def judge(train: Indices, test: Indices) -> Array:
        return Posterior.fit(lengths_N1[train]).probability(lengths_N1[test])

    return judge


def _by_words(pairs: PairSet) -> Judge:
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import LogisticRegression

    words = HashingVectorizer(ngram_range=(1, 2), n_features=2**18, alternate_sign=False)
    difference = words.transform([p.chosen for p in pairs]) - words.transform([p.rejected for p in pairs])

    def judge(train: Indices, test: Indices) -> Array:
        from scipy.sparse import vstack

        # A classifier wants both answers: every choice also stands the other way round.
        both = vstack([difference[train], -difference[train]])
        said = np.repeat([1, 0], len(train))
        fitted = LogisticRegression(fit_intercept=False, C=10.0, max_iter=1000).fit(both, said)
        return np.asarray(expit(fitted.decision_function(difference[test])))

    return judge


_BASELINES = {"length": _by_length, "words": _by_words}
