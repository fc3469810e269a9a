"""Values' weights are found where they were planted."""

from __future__ import annotations

import numpy as np
import pytest

from safetylayers.align.weights import ValueWeights, infer_weights
from safetylayers.errors import UsageError
from safetylayers.tiny.choices import VALUES, WEIGHTS, choose, requests


def infer(seed: int, *, shuffled: bool = False, count: int = 600) -> ValueWeights:
    asked = requests(count, seed=seed)
    worth = {(request.text, reply.text): reply.worth for request in asked for reply in request.replies}
    pairs = choose(asked, seed=seed, shuffled=shuffled)
    chosen, rejected = (
        {name: [worth[pair.prompt, text][name] for pair, text in zip(pairs, said, strict=True)] for name in VALUES}
        for said in ([pair.chosen for pair in pairs], [pair.rejected for pair in pairs])
    )
    return infer_weights(chosen, rejected)


def test_planted_weights_lie_within_their_intervals_in_nine_of_ten() -> None:
    inside = []
    for draw in range(20):
        found = infer(draw).weights
        inside += [found[name].low <= weight <= found[name].high for name, weight in WEIGHTS.items()]
    assert np.mean(inside) >= 0.9


def test_choices_by_a_coin_leave_every_weight_undecided_or_small() -> None:
    found = infer(0, shuffled=True)
    assert len(found.undecided()) >= 3
    assert max(abs(weight.mean) for weight in found.weights.values()) < 0.4


def test_many_choices_decide_what_counts() -> None:
    assert infer(1).undecided() == []
    assert infer(1).right > 0.7


def test_different_values_cannot_be_weighed() -> None:
    with pytest.raises(UsageError, match="different values"):
        infer_weights({"honesty": [1.0]}, {"thrift": [1.0]})
