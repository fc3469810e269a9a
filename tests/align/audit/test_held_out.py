"""The interval of how many pairs are told counts prompts, not pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetylayers.align.audit import clustered_wilson
from safetylayers.stats import wilson


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=40), st.integers(1, 8))
def test_an_interval_of_clustered_hits_contains_their_share(hits: list[float], groups: int) -> None:
    low, high = clustered_wilson(hits, [place % groups for place in range(len(hits))])
    assert 0 <= low <= np.mean(hits) + 1e-9
    assert np.mean(hits) - 1e-9 <= high <= 1


def test_copies_count_as_one_and_what_is_all_right_by_its_groups() -> None:
    hits = [True] * 30 + [False] * 20
    copied = clustered_wilson(np.repeat(hits, 4), np.repeat(np.arange(50), 4))
    assert copied == pytest.approx(wilson(30, 50), abs=0.01)
    assert clustered_wilson([1] * 40, np.repeat(np.arange(10), 4)) == pytest.approx(wilson(10, 10))
