"""What a head is worth: how well it tells apart rows that it was not trained on, with intervals."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from safetylayers.records import Rate, Record
from safetylayers.stats import Interval, bootstrap_auroc

FALSE_POSITIVES = (0.01, 0.001)


class HeadScore(Record):
    """One head on one set of rows."""

    head: str
    kind: str
    """"prompt end" or "reply"."""
    shift: str = ""
    """What was done to the rows; empty in distribution."""
    auroc: float
    interval: Interval
    recall: dict[str, Rate]
    """False-positive rate ("0.01") -> positives found at it. With fewer negatives than its inverse, the threshold is
    the highest negative's score."""
    positives: int
    negatives: int


def head_score(
    head: str, kind: str, positive: ArrayLike, negative: ArrayLike, *, shift: str = "", seed: int = 0
) -> HeadScore:
    """Measure scores of rows that have a label against those of rows that have it not."""
    found, other = np.asarray(positive, dtype=float), np.asarray(negative, dtype=float)
    auroc, interval = bootstrap_auroc(other, found, seed=seed)
    return HeadScore(
        head=head,
        kind=kind,
        shift=shift,
        auroc=auroc,
        interval=interval,
        recall={f"{rate:g}": Rate.of((found > threshold_at(other, rate)).tolist()) for rate in FALSE_POSITIVES},
        positives=len(found),
        negatives=len(other),
    )


def threshold_at(negative: NDArray[np.float64], rate: float) -> float:
    """Return the score that at most a share `rate` of the negatives exceeds."""
    ordered = np.sort(negative)[::-1]
    return float(ordered[min(int(rate * len(ordered)), len(ordered) - 1)])
