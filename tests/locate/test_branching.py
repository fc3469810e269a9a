"""Candidates share what they scale alike, and nothing else."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from safetylayers.locate.branching import branch, finish, run_stretch
from safetylayers.locate.decision import Range, upper_candidates
from support import TEXTS, random_chat_model

LAYERS = 8
ranges = st.tuples(st.integers(0, LAYERS - 1), st.integers(0, LAYERS - 1)).map(lambda ends: (min(ends), max(ends)))


@settings(deadline=None)
@given(candidates=st.lists(ranges, min_size=1, max_size=6, unique=True))
def test_following_a_candidate_through_the_stretches_gives_its_own_alphas(candidates: list[Range]) -> None:
    plan = branch(candidates, 1.2, LAYERS)
    assert [(s.first, s.last) for s in plan] == list(
        zip([0, *(s.last + 1 for s in plan[:-1])], [s.last for s in plan], strict=True)
    )
    for row, (first, last) in enumerate(candidates):
        group = row
        for stretch in reversed(plan):
            mine = stretch.alphas_GL[group, stretch.first : stretch.last + 1]
            wanted = [1.2 if first <= k <= last else 1.0 for k in range(stretch.first, stretch.last + 1)]
            assert mine.tolist() == torch.tensor(wanted).tolist()
            group = int(stretch.parents_G[group])


def test_an_upper_bound_sweep_computes_each_layer_as_seldom_as_can_be() -> None:
    candidates = upper_candidates(onset=2, smoothing=4, layers=LAYERS)
    plan = branch(candidates, 1.2, LAYERS)
    rows = {k: len(s.alphas_GL) for s in plan for k in range(s.first, s.last + 1)}
    # Below layer 3 all candidates agree; then one after another leaves those that scale on.
    assert candidates == [(2, 2), (2, 3), (2, 4), (2, 5), (2, 6)]
    assert [rows[k] for k in range(LAYERS)] == [1, 1, 1, 2, 3, 4, 5, 5]


def test_stretch_by_stretch_equals_one_candidate_at_a_time() -> None:
    model = random_chat_model("Gemma3")
    batch = model.tokenize(TEXTS)
    candidates = [(1, 1), (1, 2), (0, 2), (2, 3)]
    *lower, last = branch(candidates, 1.3, model.n_layers)
    below = None
    for stretch in lower:
        below = run_stretch(model, batch, stretch, below)
    found = finish(model, batch, last, below, length=2)
    for row, (first, end) in enumerate(candidates):
        with model.scale(1.3, first, end):
            torch.testing.assert_close(found[row], model.next_logprobs(batch, 2), rtol=1e-4, atol=1e-4)
