"""Replies are read where they stand, whatever stands beside them."""

from __future__ import annotations

import numpy as np
import pytest

from safetylayers.align.features import read_features, read_pairs
from safetylayers.errors import UsageError
from safetylayers.models import ChatModel
from safetylayers.prompts import Pair, PairSet
from safetylayers.prompts.rendering import render_messages

TURNS = ({"role": "user", "content": "What is two and two?"},)


@pytest.mark.parametrize("pool", ["mean", "last"])
def test_a_reply_is_the_mean_of_its_own_tokens_or_its_last_one(tiny: ChatModel, pool: str) -> None:
    found = read_features(tiny, [TURNS], ["The answer is four."], layers=(2, 5), pool=pool)  # type: ignore[arg-type]
    text = render_messages(list(TURNS), tiny.tokenizer)
    said = len(tiny.tokenizer("The answer is four.", add_special_tokens=False).input_ids)
    states = tiny.hidden_states([text + "The answer is four."], layers=(2, 5), positions=range(-said, 0))[0].double()
    expected = states.mean(1) if pool == "mean" else states[:, -1]
    np.testing.assert_allclose(found.states[0], expected.flatten().numpy(), atol=1e-4)
    assert found.tokens.tolist() == [said if pool == "mean" else 1]


def test_who_else_is_in_the_batch_makes_no_difference(tiny: ChatModel) -> None:
    alone = read_features(tiny, [TURNS], ["Four."], layers=(4,))
    together = read_features(tiny, [TURNS] * 3, ["Four.", "It is five, I should think, or more.", "No"], layers=(4,))
    np.testing.assert_allclose(alone.states[0], together.states[0], atol=1e-4)


def test_of_what_is_longer_than_the_context_the_end_is_read(tiny: ChatModel) -> None:
    long = ({"role": "user", "content": "word " * 400},)
    found = read_features(tiny, [long], ["Four."], layers=(4,))
    lasts = ({"role": "user", "content": "other " * 30 + "word " * 370},)
    other = read_features(tiny, [lasts], ["Four."], layers=(4,))
    np.testing.assert_allclose(found.states, other.states, atol=1e-4)
    longer = read_features(tiny, [TURNS], ["word " * 400], layers=(4,))
    assert longer.tokens[0] == 256


def test_pairs_come_apart_as_they_were_put_together(tiny: ChatModel) -> None:
    pairs = PairSet("p", (Pair.of("A?", "Yes.", "No."), Pair.of("B?", "Red.", "Blue, or green.")))
    chosen, rejected = read_pairs(tiny, pairs, layers=(3,))
    other = read_features(tiny, [pairs.pairs[1].messages], ["Blue, or green."], layers=(3,))
    np.testing.assert_allclose(rejected.states[1], other.states[0], atol=1e-4)
    assert chosen.states.shape == rejected.states.shape == (2, tiny.hidden_size)


@pytest.mark.parametrize(
    ("replies", "layers", "message"),
    [
        (["A", "B"], (1,), "1 conversations but 2 replies"),
        (["A"], (), "There are no layers"),
        (["A"], (99,), r"There are no layers \[99\]"),
        ([""], (1,), "A reply is empty"),
    ],
)
def test_what_cannot_be_read_is_refused(
    tiny: ChatModel, replies: list[str], layers: tuple[int, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        read_features(tiny, [TURNS], replies, layers=layers)
