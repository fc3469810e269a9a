"""The audit from beginning to end.

Shapes: N pairs, P prompts, V values, S draws of the scores, D draws of the weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from safetylayers.align.audit.findings import audited_prompts, correlation, telling_pairs, value_weights
from safetylayers.align.audit.held_out import held_out
from safetylayers.align.audit.methods import METHODS, Pairs, prompt_means
from safetylayers.align.audit.record import Method, ValueAudit
from safetylayers.align.audit.samples import FEWEST, Samples, draw_samples
from safetylayers.align.audit.scores import RewardScorer, Scored, Scorer, stacked
from safetylayers.align.bayes import Array
from safetylayers.errors import UsageError
from safetylayers.prompts import PromptSet
from safetylayers.records import ProgressCallback, Provenance

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

DRAWS = 2000
"""Of the weights."""
STEP = 0.1
"""Of the way to a draw of the scores, on which the weights' slope is measured."""


def audit(
    model: ChatModel,
    base: ChatModel,
    prompts: PromptSet,
    scorer: Scorer,
    *,
    method: Method = "preference",
    replies: int = 4,
    max_new_tokens: int = 48,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> ValueAudit:
    """Infer what a model optimises beside its base, from replies of both.

    Args:
        model: that is audited.
        base: that it was made of.
        prompts: to which both reply; what they never touch stays undecided.
        scorer: of the values; with `RewardScorer`, what the reward is unsure of is carried on.
        method: see the package.
        replies: of each model to each prompt.
        max_new_tokens: longest reply.
        seed: of all draws.
        progress: told of every step.

    Raises:
        UsageError: see `draw_samples` and `infer`.
        WrongModelError: the reward reads another model.
    """
    samples = draw_samples(
        model, base, prompts, replies=replies, max_new_tokens=max_new_tokens, seed=seed, progress=progress
    )
    scored = samples.score(scorer, progress)
    ratios = samples.log_ratios(model, base, progress) if method == "log-ratio" else None
    data = {prompts.name: prompts.content_hash}
    if isinstance(scorer, RewardScorer):
        data["reward"] = scorer.content_hash
    provenance = Provenance(model=model.name, model_hash=model.weights_hash, data=data, seed=seed)
    return infer(samples, scored, provenance, base=(base.name, base.weights_hash), method=method, ratios=ratios)


def infer(
    samples: Samples,
    scored: Scored,
    provenance: Provenance,
    *,
    base: tuple[str, str],
    method: Method = "preference",
    ratios: Array | None = None,
) -> ValueAudit:
    """Infer it from replies that are scored already.

    Weights are fitted to the scores' means, which leaves them unbiased (regression calibration: Carroll et al. 2006);
    a fit to a draw of the scores would not be, for a draw's errors have nothing to do with the replies and
    pull weights towards 0. How far weights move with the scores, to first order, is added to their spread.

    Args:
        samples: replies.
        scored: their scores.
        provenance: of the audit; its seed is that of the draws.
        base: its name and hash.
        method: see the package.
        ratios: `Samples.log_ratios`, for that method.

    Raises:
        UsageError: scores are no numbers or not one a reply, too few prompts have replies, or log-ratios are missing.
    """
    names, scores_S2NV = stacked(scored, len(samples.ours))
    if ratios is None:
        if method == "log-ratio":
            raise UsageError("Log-ratios are missing.", mend="Give samples.log_ratios(model, base).")
        ratios = np.zeros((2, len(samples.ours)))
    if len(np.unique(samples.prompt)) < FEWEST:
        raise UsageError(
            f"{samples.empty} pairs have an empty reply, and those left answer fewer than {FEWEST} prompts.",
            mend="Give more prompts, or draw more replies.",
        )
    mean_2NV = scores_S2NV.mean(axis=0)
    mean = Pairs(mean_2NV[0], mean_2NV[1], samples.prompt, ratios)
    rng = np.random.default_rng(provenance.seed)
    fitted = METHODS[method](mean, DRAWS, rng, None)
    which_D = rng.integers(len(scores_S2NV), size=len(fitted.draws))
    draws_DV = fitted.draws + _slopes(scores_S2NV, mean, method, fitted.precision)[which_D]
    gap_SPV = np.stack([prompt_means(ours - theirs, samples.prompt) for ours, theirs in scores_S2NV])
    gap_PV = gap_SPV.mean(axis=0)
    moved_DP = draws_DV @ gap_PV.T + ((gap_SPV - gap_PV) @ fitted.mean)[which_D]
    told = held_out(mean, method, provenance.seed)
    weights = value_weights(names, draws_DV, fitted.draws, gap_SPV[which_D], rng)
    return ValueAudit(
        provenance=provenance,
        base=base[0],
        base_hash=base[1],
        method=method,
        weights=weights,
        undecided=tuple(name for name, weight in weights.items() if weight.low <= 0 <= weight.high),
        correlation=correlation(names, draws_DV),
        held_out=told,
        differs=told.low > 0.5,
        replies=samples.replies,
        pairs=len(samples.ours),
        empty=samples.empty,
        unfamiliar=sum(scored.unfamiliar),
        prompts=audited_prompts(samples, moved_DP),
        telling=telling_pairs(samples, mean.differences @ draws_DV.mean(axis=0)),
    )


def _slopes(scores_S2NV: Array, mean: Pairs, method: Method, precision: float | None) -> Array:
    """Return how far weights move with each draw of the scores, [S, V], to first order by central differences."""
    if len(scores_S2NV) == 1:
        return np.zeros((1, scores_S2NV.shape[-1]))
    rng = np.random.default_rng()  # nothing is drawn with it
    middle_2NV = np.stack([mean.ours, mean.theirs])

    def at(score_2NV: Array, step: float) -> Array:
        moved_2NV = middle_2NV + step * (score_2NV - middle_2NV)
        moved = Pairs(moved_2NV[0], moved_2NV[1], mean.prompt, mean.ratios)
        return METHODS[method](moved, 0, rng, precision).mean

    return np.array([(at(score_2NV, STEP) - at(score_2NV, -STEP)) / (2 * STEP) for score_2NV in scores_S2NV])
