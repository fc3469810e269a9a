"""The gate's memory does what the cache does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from safetylayers.attach.gate import GateSettings, HeadCalibration, Inputs, Rules, State, Thresholds, advance
from safetylayers.attach.memory import GateMemory
from safetylayers.errors import UsageError

LIMITS = Thresholds(prompt=0.5, mean=0.5, peak=0.5)
RULES = Rules(("harm",), {"harm": HeadCalibration(thresholds=LIMITS)}, GateSettings(), (9,), (7,), layers=1, channels=2)


def inputs(seed: int, rows: int, tokens: int) -> Inputs:
    rng = np.random.default_rng(seed)
    read = rng.normal(size=(2, rows, tokens, 1, 2))
    return Inputs(read[0], read[1], rng.integers(4, 10, size=(rows, tokens)).tolist(), None, None)


def memory_after(*passes: Inputs, croppable: bool = True) -> GateMemory:
    memory = GateMemory(RULES, croppable=croppable)
    state = State.new(list(range(len(passes[0].values))), 2)
    for one in passes:
        after, _ = advance(state, one, RULES)
        memory.remember(state, one, after)
        state = after
    return memory


def assert_same(one: State | None, other: State | None) -> None:
    assert one is not None
    assert other is not None
    assert one.rows == other.rows
    np.testing.assert_allclose(one.weight, other.weight)
    np.testing.assert_allclose(one.weighted, other.weighted)


def test_cropping_within_and_across_passes_equals_never_having_read() -> None:
    first, second, third = inputs(0, 2, 6), inputs(1, 2, 3), inputs(2, 2, 1)
    memory = memory_after(first, second, third)
    memory.crop(-3)
    assert memory.get_seq_length() == 7
    assert_same(memory.state, memory_after(first, second.first(1)).state)
    memory.crop(-1)
    assert_same(memory.state, memory_after(first).state)


def test_reordered_rows_go_on_from_other_rows_and_can_still_be_cropped() -> None:
    first, second = inputs(0, 3, 5), inputs(1, 3, 2)
    memory = memory_after(first, second)
    memory.reorder_cache(torch.tensor([2, 2, 0]))
    assert memory.state is not None
    assert [row.name for row in memory.state.rows] == [2, 2, 0]
    memory.crop(-2)
    expected = memory_after(first).state
    assert expected is not None
    assert_same(memory.state, expected.select([2, 2, 0]))


def test_rows_are_repeated_and_selected_like_the_cache_does() -> None:
    memory = memory_after(inputs(0, 2, 4))
    memory.batch_repeat_interleave(2)
    assert memory.state is not None
    assert [row.name for row in memory.state.rows] == [0, 0, 1, 1]
    memory.batch_select_indices(torch.tensor([True, False, True, False]))
    assert [row.name for row in memory.state.rows] == [0, 1]
    memory.reset()
    assert memory.state is None
    assert memory.get_seq_length() == 0


def test_joined_memories_go_on_like_each_alone() -> None:
    first, second, step = inputs(0, 2, 5), inputs(1, 1, 3), inputs(2, 3, 1)
    memory, other = memory_after(first, croppable=False), memory_after(second, croppable=False)
    other.set_length(5)
    memory.join(other)
    assert memory.get_seq_length() == 5
    assert memory.state is not None
    after, _ = advance(memory.state, step, RULES)
    assert_same(after.select([0, 1]), memory_after(first, step.select([0, 1])).state)
    assert_same(after.select([2]), memory_after(second, step.select([2])).state)


def test_memories_are_joined_only_at_one_length_and_where_nothing_is_taken_back() -> None:
    memory = memory_after(inputs(0, 2, 5), croppable=False)
    with pytest.raises(UsageError, match="different lengths"):
        memory.join(memory_after(inputs(1, 1, 3), croppable=False))
    with pytest.raises(UsageError, match="may be cropped"):
        memory.join(memory_after(inputs(1, 1, 5)))
    with pytest.raises(UsageError, match="taken back"):
        memory.crop(-1)


def test_a_memory_that_cannot_be_cropped_does_not_grow() -> None:
    memory = memory_after(*(inputs(seed, 2, 1) for seed in range(50)), croppable=False)
    memory.reorder_cache(torch.tensor([1]))
    assert memory._passes == memory._moves == []
