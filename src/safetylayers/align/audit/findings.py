"""From draws of the weights to what the record says of values, prompts and pairs.

Shapes: N pairs, P prompts, V values, D draws.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from safetylayers.align.audit.record import AuditedPrompt, TellingPair, Weight
from safetylayers.align.audit.samples import Samples
from safetylayers.align.bayes import Array
from safetylayers.records import Estimate
from safetylayers.stats import percentile_interval

SHOWN = 10
"""Pairs that the record keeps."""


def value_weights(
    names: Sequence[str], draws_DV: Array, given_DV: Array, gap_DPV: Array, rng: np.random.Generator
) -> dict[str, Weight]:
    """Return what each value weighs.

    Args:
        names: of the values.
        draws_DV: of the weights.
        given_DV: of the weights, were scores certain.
        gap_DPV: by how much the model's replies score higher, on average a prompt, with each draw's scores.
        rng: draws prompts anew, for the gaps' intervals.
    """
    prompts = gap_DPV.shape[1]
    drawn_DP = rng.integers(prompts, size=gap_DPV.shape[:2])
    gap_DV = np.take_along_axis(gap_DPV, drawn_DP[..., None], axis=1).mean(axis=1)
    mean_V = gap_DPV.mean(axis=(0, 1))
    found = {}
    for place, name in enumerate(names):
        draw_D = draws_DV[:, place]
        (low, high), given = percentile_interval(draw_D), percentile_interval(given_DV[:, place])
        gap = percentile_interval(gap_DV[:, place])
        found[name] = Weight(
            mean=float(draw_D.mean()), low=low, high=high, given_low=given.low, given_high=given.high,
            above=float((draw_D > 0).mean() + (draw_D == 0).mean() / 2),
            gap=Estimate(mean=float(mean_V[place]), low=gap.low, high=gap.high, total=prompts),
        )  # fmt: skip
    return found


def correlation(names: Sequence[str], draws_DV: Array) -> dict[str, dict[str, float]]:
    """Return the correlation of the values' weights; one that never moves goes with none."""
    deviation_V = draws_DV.std(axis=0)
    scaled_DV = (draws_DV - draws_DV.mean(axis=0)) / np.where(deviation_V > 0, deviation_V, 1.0)
    found_VV = np.clip(scaled_DV.T @ scaled_DV / len(draws_DV), -1.0, 1.0)
    return {name: dict(zip(names, map(float, row), strict=True)) for name, row in zip(names, found_VV, strict=True)}


def audited_prompts(samples: Samples, gap_DP: Array) -> tuple[AuditedPrompt, ...]:
    """Return what is made of each prompt's replies, those first of which it is least sure which model's they are."""
    found = []
    for place, count, gap_D in zip(*np.unique(samples.prompt, return_counts=True), gap_DP.T, strict=True):
        low, high = percentile_interval(gap_D)
        audited = AuditedPrompt(
            prompt=samples.prompts.prompts[place].text, pairs=int(count), mean=float(gap_D.mean()), low=low, high=high,
            undecided=low <= 0 <= high,
        )  # fmt: skip
        found.append((abs(float((gap_D > 0).mean() - (gap_D < 0).mean())), abs(audited.mean), audited))
    return tuple(audited for *_, audited in sorted(found, key=lambda each: each[:2]))


def telling_pairs(samples: Samples, gap_N: Array) -> tuple[TellingPair, ...]:
    """Return the pairs that the weights put furthest apart, [N] by how much."""
    order = np.argsort(-np.abs(gap_N), kind="stable")[:SHOWN]
    return tuple(
        TellingPair(
            prompt=samples.asked[row], model=samples.ours[row].text, base=samples.theirs[row].text,
            gap=float(gap_N[row]),
        )
        for row in order
    )  # fmt: skip
