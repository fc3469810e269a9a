"""An audit carries on what scores are unsure of, says what stays open, and refuses what makes no sense."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from align.audited import PLANTED, World, asked, provenance, width
from safetylayers.align.audit import Scored, ValueAudit, audit, infer
from safetylayers.errors import UsageError
from safetylayers.models import ChatModel
from safetylayers.prompts.pairs import Turn


def test_what_the_scores_are_unsure_of_makes_weights_unsure() -> None:
    world = World(PLANTED, seed=0)
    score_V = world.scores.reshape(-1, 3).T
    drawn = np.random.default_rng(0).normal(1, 0.5, (20, 1))
    unsure = Scored({"kind": drawn * score_V[0], "brief": score_V[1], "idle": score_V[2]})
    found = infer(world.samples, unsure, provenance(), base=("base", "b"))
    assert width(found) > 1.5 * width(world.infer("preference"))
    kind = found.weights["kind"]
    assert kind.low < kind.given_low < kind.given_high < kind.high
    assert kind.gap.high - kind.gap.low > world.infer("preference").weights["kind"].gap.high - kind.gap.mean
    assert width(found, "brief") == pytest.approx(width(world.infer("preference"), "brief"), rel=0.3)


def test_unsure_scores_bias_no_weight_and_its_interval_holds() -> None:
    found = []
    for seed in range(8):
        world = World(PLANTED, seed=seed)
        rng = np.random.default_rng(seed)
        # The scores in hand are off along one direction, as a reward's are; how far, the draws say.
        towards_2N, off_S = rng.standard_normal((2, 240)), rng.normal(0, 0.5, (10, 1))
        known = world.scores.reshape(-1, 3).T
        drawn = known[0] + off_S * towards_2N.ravel()
        true_2N = known[0].reshape(2, -1) + rng.normal(0, 0.5) * towards_2N
        ratios = world.ratios + PLANTED[0] * (true_2N - world.scores[..., 0])
        scored = Scored({"kind": drawn, "brief": known[1], "idle": known[2]})
        found.append(infer(world.samples, scored, provenance(), base=("b", "b"), method="log-ratio", ratios=ratios))
    assert np.mean([record.weights["kind"].mean for record in found]) == pytest.approx(PLANTED[0], abs=0.05)
    assert sum(record.weights["kind"].low <= PLANTED[0] <= record.weights["kind"].high for record in found) >= 7


def test_values_that_always_go_together_cannot_be_told_apart() -> None:
    world = World(PLANTED[:2], seed=0)
    near_2N = world.scores[..., :1] + 0.01 * np.random.default_rng(0).standard_normal((2, 240, 1))
    found = world.infer("preference", np.concatenate([world.scores, near_2N], axis=-1))
    assert found.alike() == [("kind", "idle")]
    assert found.correlation["kind"]["kind"] == pytest.approx(1)


def test_prompts_come_with_the_least_told_first_and_pairs_with_the_most_telling() -> None:
    found = World(PLANTED, seed=0).infer("preference")
    assert found.prompts[0].undecided
    assert not found.prompts[-1].undecided
    gaps = [abs(pair.gap) for pair in found.telling]
    assert gaps == sorted(gaps, reverse=True)


def length(conversations: Sequence[Sequence[Turn]], replies: Sequence[str]) -> dict[str, list[float]]:
    return {"length": [float(len(reply)) for reply in replies]}


def test_any_function_of_replies_can_score_them(tiny: ChatModel, tiny_base: ChatModel) -> None:
    steps: list[str] = []
    record = audit(
        tiny, tiny_base, asked(6), length, method="log-ratio", replies=2, max_new_tokens=6,
        progress=lambda done, total, what: steps.append(what),
    )  # fmt: skip
    assert (record.base, record.pairs + record.empty, record.replies) == ("tiny-base", 12, 2)
    assert record.provenance.data == {"asked": asked(6).content_hash}
    assert ValueAudit.model_validate_json(record.model_dump_json()) == record
    assert set(steps) == {"replies", "log-probabilities"}


def test_too_few_prompts_with_replies_and_missing_log_ratios_are_refused() -> None:
    world = World(PLANTED, seed=0, prompts=4)
    with pytest.raises(UsageError, match="fewer than 5 prompts"):
        world.infer("preference")
    with pytest.raises(UsageError, match="Log-ratios are missing"):
        infer(world.samples, Scored({"a": np.zeros(24)}), provenance(), base=("b", "b"), method="log-ratio")
