"""The gate's arithmetic, on numbers that can be checked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetylayers.attach.control import Order
from safetylayers.attach.gate import (
    GateSettings,
    HeadCalibration,
    Inputs,
    Rules,
    State,
    Steps,
    Thresholds,
    advance,
)

ENDING, END_OF_TEXT = (8, 9), 7
PROMPT = [1, 2, 8, 9]


def rules(heads: tuple[str, ...] = ("harm",), **settings: float) -> Rules:
    limits = Thresholds(prompt=1.0, mean=2.0, peak=3.0)
    calibration = {name: HeadCalibration(thresholds=None if name == "refusal" else limits) for name in heads}
    return Rules(heads, calibration, GateSettings(**settings), ENDING, (END_OF_TEXT,), layers=1, channels=len(heads))


def inputs(
    scores: list[float], tokens: list[int] | None, *, refusal: list[float] | None = None, order: Order | None = None
) -> Inputs:
    """One row; one channel a head, no pools, so that a channel is its score."""
    columns = [scores] if refusal is None else [scores, refusal]
    values = np.array(columns, dtype=float).T[None, :, None, :]
    return Inputs(values, None, None if tokens is None else [tokens], None, None if order is None else [order])


def run(scores: list[float], tokens: list[int] | None, with_rules: Rules | None = None, **more: object) -> Steps:
    chosen = with_rules or rules()
    return advance(State.new(["row"], 0), inputs(scores, tokens, **more), chosen)[1]


def opened(steps: Steps) -> list[int]:
    return [t for t, step in sorted(steps.taken[0].items()) if step.open]


def test_tokens_before_the_prompts_end_open_nothing() -> None:
    assert opened(run([9, 9, 9, 0], PROMPT)) == []


def test_a_score_at_the_prompts_end_holds_for_the_whole_reply() -> None:
    assert opened(run([0, 0, 0, 1.5, -9, -9], [*PROMPT, 4, 5])) == [3, 4, 5]


def test_one_high_token_of_a_reply_opens_the_gate_from_there_on() -> None:
    assert opened(run([0, 0, 0, 0, 0, 3.5, 0], [*PROMPT, 4, 5, 6])) == [5, 6]


def test_the_exponential_mean_opens_where_no_single_token_would() -> None:
    steps = run([0, 0, 0, 0, *[2.6] * 8], [*PROMPT, *[4] * 8], rules(decay=0.8))
    means = [2.6]
    assert opened(steps)[0] == 4
    low = run([0, 0, 0, 0, 0.0, *[2.6] * 8], [*PROMPT, *[4] * 9], rules(decay=0.8))
    means = [0.0]
    for _ in range(8):
        means.append(0.8 * means[-1] + 0.2 * 2.6)
    first = next(index for index, mean in enumerate(means) if mean >= 2.0)
    assert opened(low)[0] == 4 + first


def test_an_open_gate_closes_only_well_below_the_threshold() -> None:
    settings = rules(decay=0.0, release=1.0)
    settings.calibration["harm"] = HeadCalibration(thresholds=Thresholds(prompt=1.0, mean=2.0, peak=99.0))
    scores = [0, 0, 0, -9, 2.5, 1.5, 0.5, 1.5]
    assert opened(run(scores, [*PROMPT, 4, 5, 4, 5], settings)) == [4, 5]


def test_a_new_prompt_is_judged_anew() -> None:
    scores = [0, 0, 0, 1.5, 0, 0, 0, 0, 0, 0]
    tokens = [*PROMPT, 4, END_OF_TEXT, *PROMPT]
    steps = run(scores, tokens)
    assert opened(steps) == [3, 4, 5]
    assert steps.taken[0][9].risk == -1.0


def test_what_follows_an_end_of_text_is_read_all_the_same() -> None:
    assert opened(run([0, 0, 0, 1.5, 0, 0, 0], [*PROMPT, END_OF_TEXT, 4, 5])) == [3, 4, 5, 6]
    assert opened(run([0, 0, 0, 0, 0, 3.5], [*PROMPT, END_OF_TEXT, 4])) == [5]


def test_a_prompts_ending_written_into_a_reply_takes_nothing_back() -> None:
    assert opened(run([0, 0, 0, 1.5, 0, 0, -9, 0], [*PROMPT, 4, *ENDING, 5])) == [3, 4, 5, 6, 7]


def test_the_words_of_the_next_prompt_open_nothing_before_its_end() -> None:
    assert opened(run([0, 0, 0, 0, 0, 9, 9, 9, 0], [*PROMPT, END_OF_TEXT, 1, 2, *ENDING])) == []


def test_a_prompt_without_the_template_is_scored_at_its_last_token() -> None:
    assert opened(run([0, 0, 1.5], [1, 2, 3])) == [2]
    assert opened(run([0, 0, 1.5], None)) == [2]


def test_strength_grows_with_the_risk() -> None:
    settings = rules(weakest=0.5, strongest=1.5, ramp=4.0)
    steps = run([0, 0, 0, 3.0], PROMPT, settings)
    assert steps.taken[0][3].strength == 0.5 + (1.5 - 0.5) * (3.0 - 1.0) / 4.0
    assert run([0, 0, 0, 99.0], PROMPT, settings).taken[0][3].strength == 1.5


@pytest.mark.parametrize("place", [3, 4])
def test_a_score_that_is_no_number_opens_the_gate(place: int) -> None:
    scores = [0.0] * 6
    scores[place] = math.nan
    assert place in opened(run(scores, [*PROMPT, 4, 5]))


def test_a_reply_that_does_not_become_a_refusal_is_ended() -> None:
    steps = run([0, 0, 0, 1.5, *[0] * 5], [*PROMPT, *[4] * 5], rules(("harm", "refusal"), patience=3), refusal=[-1] * 9)
    assert [t for t, step in sorted(steps.taken[0].items()) if step.stopped] == [6, 7, 8]


def test_a_reply_that_becomes_a_refusal_is_not_ended() -> None:
    steps = run([0, 0, 0, 1.5, *[0] * 5], [*PROMPT, *[4] * 5], rules(("harm", "refusal"), patience=3), refusal=[1] * 9)
    assert not steps.any_stopped


def test_orders_shift_observe_and_refuse() -> None:
    calm = [0, 0, 0, 0, 0]
    tokens = [*PROMPT, 4]
    assert opened(run(calm, tokens, order=Order(refuse=True))) == [3, 4]
    assert opened(run(calm, tokens, order=Order(shift=-2.0))) == [3, 4]
    observed = run([0, 0, 0, 5, 0], tokens, order=Order(observe=True))
    assert opened(observed) == []
    assert observed.taken[0][3].would_open


@given(
    scores=st.lists(st.floats(-5, 5), min_size=6, max_size=30),
    cuts=st.sets(st.integers(1, 29)),
    seed=st.integers(0, 1000),
)
def test_reading_in_pieces_gives_what_reading_at_once_gives(scores: list[float], cuts: set[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    # A next prompt has to come in one piece: of half a prompt nobody knows that it is one.
    alphabet = [4, 5, 7] if seed % 2 else [4, 5, 8, 9]
    tokens = [*PROMPT, *rng.choice(alphabet, size=len(scores) - 4).tolist()]
    chosen = rules(("harm", "refusal"), patience=2)
    refusal = rng.normal(size=len(scores)).tolist()
    whole, steps = advance(State.new(["row"], 0), inputs(scores, tokens, refusal=refusal), chosen)
    state = State.new(["row"], 0)
    pieces: dict[int, object] = {}
    edges = [4, *sorted(cut for cut in cuts if 4 < cut < len(scores)), len(scores)]
    for start, stop in zip([0, *edges], edges, strict=False):
        part = inputs(scores[start:stop], tokens[start:stop], refusal=refusal[start:stop])
        state, found = advance(state, part, chosen)
        pieces |= {start + t: step for t, step in found.taken[0].items()}
    assert pieces == steps.taken[0]
    assert state.rows == whole.rows
