"""From scores to log-odds, and to thresholds with a stated share of false alarms.

Platt's scaling (Platt 1999) is fitted for each position kind on rows that the heads were not trained on. Thresholds
are set on plainly harmless prompts and the model's own replies to them: whole replies, not tokens, for one open token
is a reply changed. All three ways in which a reply can open the gate get the same quantile: the lowest at which no
more than the allowed share of the replies opens it in any way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from safetylayers.attach.gate import REFUSAL, GateSettings, HeadCalibration, Thresholds
from safetylayers.errors import DataError

Floats = NDArray[np.float64]
LEAST_SCALE = 1e-3
NEVER_BELOW = 1e6
"""Log-odds that nothing reaches."""


@dataclass(frozen=True)
class Scored:
    """One row's mean scores over the layers."""

    prompt_end: Floats
    """[K]"""
    reply: Floats
    """[reply's tokens, K]"""


def platt(scores: Sequence[float], truth: Sequence[bool]) -> tuple[float, float]:
    """Return scale and offset that turn scores into log-odds of the truth; 1 and 0 where one side is lacking."""
    from sklearn.linear_model import LogisticRegression

    if len(set(truth)) < 2:
        return 1.0, 0.0
    fitted = LogisticRegression(C=10.0).fit(np.asarray(scores, dtype=float)[:, None], np.asarray(truth))
    # A head that is worse than chance must not be turned round: its scale is held above zero.
    return max(float(fitted.coef_[0, 0]), LEAST_SCALE), float(fitted.intercept_[0])


def calibrate(
    heads: Sequence[str],
    scored: Sequence[Scored],
    truths: Sequence[dict[str, tuple[bool | None, bool | None]]],
    harmless: Sequence[Scored],
    gate: GateSettings,
    false_positives: float,
) -> dict[str, HeadCalibration]:
    """Calibrate every head.

    Args:
        heads: their names.
        scored: rows that the heads were not trained on.
        truths: of each row, head -> what is true at the prompt's end and in the reply; None where not known.
        harmless: plainly harmless prompts with the model's own replies; thresholds are set on these.
        gate: whose decay the exponential mean has.
        false_positives: share of the harmless replies that may be changed; each guarding head gets an even part of it.

    Raises:
        DataError: there is no harmless prompt.
    """
    if not harmless:
        raise DataError("There is no harmless prompt to set thresholds on.", mend="Give some hundred with --normal.")
    found = {}
    guards = sum(head != REFUSAL for head in heads)
    for k, head in enumerate(heads):
        ends = [
            (row.prompt_end[k], at_end)
            for row, truth in zip(scored, truths, strict=True)
            if (at_end := truth[head][0]) is not None
        ]
        tokens = [
            (score, in_reply)
            for row, truth in zip(scored, truths, strict=True)
            if (in_reply := truth[head][1]) is not None
            for score in row.reply[:, k]
        ]
        prompt_scale, prompt_offset = platt([s for s, _ in ends], [t for _, t in ends])
        reply_scale, reply_offset = platt([s for s, _ in tokens], [t for _, t in tokens])
        calibration = HeadCalibration(
            prompt_scale=prompt_scale, prompt_offset=prompt_offset, reply_scale=reply_scale, reply_offset=reply_offset
        )
        if head == REFUSAL:
            if reply_scale <= LEAST_SCALE or len({truth for _, truth in tokens}) < 2:
                # What cannot tell refusals must not pass anything for one: an open gate would never end a reply.
                calibration = calibration.model_copy(update={"reply_scale": LEAST_SCALE, "reply_offset": -NEVER_BELOW})
        else:
            limits = thresholds(k, calibration, harmless, gate, false_positives / guards)
            calibration = calibration.model_copy(update={"thresholds": limits})
        found[head] = calibration
    return found


def thresholds(
    k: int, calibration: HeadCalibration, harmless: Sequence[Scored], gate: GateSettings, rate: float
) -> Thresholds:
    """Return thresholds that together at most a share `rate` of the harmless rows exceeds."""
    ends = np.array([row.prompt_end[k] for row in harmless]) * calibration.prompt_scale + calibration.prompt_offset
    odds = [row.reply[:, k] * calibration.reply_scale + calibration.reply_offset for row in harmless]
    # An empty reply opens nothing; it is taken for as harmless as the most harmless one.
    means = _filled([exponential_means(row, gate.decay).max() if len(row) else None for row in odds])
    peaks = _filled([row.max() if len(row) else None for row in odds])
    ways = (ends, means, peaks)
    for allowed in range(int(rate * len(harmless)), -1, -1):
        limits = [float(np.nextafter(np.sort(way)[::-1][allowed], np.inf)) for way in ways]
        opened = np.any([way >= limit for way, limit in zip(ways, limits, strict=True)], axis=0)
        if opened.sum() <= rate * len(harmless):
            break
    return Thresholds(prompt=limits[0], mean=limits[1], peak=limits[2])


def _filled(values: Sequence[float | None]) -> Floats:
    known = [value for value in values if value is not None]
    lowest = min(known, default=NEVER_BELOW)
    return np.array([lowest if value is None else value for value in values])


def exponential_means(odds: Floats, decay: float) -> Floats:
    """Return the exponential mean after each token, as the gate computes it."""
    means, mean = np.empty_like(odds), float(odds[0])
    for t, value in enumerate(odds):
        mean = mean if t == 0 else decay * mean + (1 - decay) * float(value)
        means[t] = mean
    return means
