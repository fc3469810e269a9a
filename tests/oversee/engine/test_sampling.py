"""Tokens are drawn as asked, each row by its own chance, and rows without numbers are found."""

from __future__ import annotations

import pytest
import torch

from safetylayers.errors import EngineError
from safetylayers.oversee.engine.sampling import NO_NUMBER, Draw, check, choose, likelihoods
from safetylayers.oversee.words import Sampling

CPU = torch.device("cpu")


def draw(**sampling: object) -> Draw:
    return Draw.of(Sampling(**sampling), CPU)


def logits(rows: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, 50, generator=torch.Generator().manual_seed(seed)) * 3


def test_a_temperature_of_nought_or_next_to_it_takes_the_likeliest() -> None:
    given = logits(2)
    assert choose(given, [draw(temperature=0), draw(temperature=1e-9)]) == given.argmax(-1).tolist()


def test_one_seed_gives_one_row_of_tokens_whatever_else_is_drawn() -> None:
    steps = [logits(3, seed) for seed in range(20)]
    alone, among = draw(seed=7), draw(seed=7)
    others = [draw(seed=8, top_p=0.5), draw(temperature=0)]
    expected = [choose(step[1:2], [alone])[0] for step in steps]
    assert [choose(step, [others[0], among, others[1]])[1] for step in steps] == expected
    other = draw(seed=9)
    assert [choose(step[1:2], [other])[0] for step in steps] != expected


def test_without_a_seed_two_replies_differ() -> None:
    steps = [logits(1, seed) / 3 for seed in range(30)]
    one, other = draw(), draw()
    assert [choose(step, [one]) for step in steps] != [choose(step, [other]) for step in steps]


def test_a_seed_of_any_size_can_be_used() -> None:
    assert choose(logits(1), [draw(seed=-(10**30))]) == choose(logits(1), [draw(seed=-(10**30))])


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    given = torch.tensor([[0.7, 0.2, 0.1]]).log()
    one = draw(seed=0, temperature=0.5)
    counts = torch.bincount(torch.tensor([choose(given, [one])[0] for _ in range(4000)]), minlength=3) / 4000
    squared = torch.tensor([0.49, 0.04, 0.01]) / 0.54
    torch.testing.assert_close(counts, squared, atol=0.03, rtol=0)


def test_nothing_outside_the_nucleus_is_drawn() -> None:
    given = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    one = draw(seed=0, top_p=0.7)
    assert {choose(given, [one])[0] for _ in range(300)} == {0, 1}


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_rows_without_numbers_are_found_and_disturb_no_other(broken: float) -> None:
    given = logits(3)
    expected = choose(given, [draw(temperature=0), draw(seed=1), draw(seed=1)])
    given[1, 4] = broken
    assert choose(given, [draw(temperature=0), draw(seed=1), draw(seed=1)]) == [expected[0], NO_NUMBER, expected[2]]


def test_likelihoods_are_of_the_plain_distribution_the_likeliest_first() -> None:
    given = logits(600)
    chosen = given.argmin(-1).tolist()
    found = likelihoods(given, chosen, 3)
    expected = given.log_softmax(-1)
    assert len(found) == 600
    for row, (logprob, top) in enumerate(found):
        assert logprob == pytest.approx(expected[row, chosen[row]].item())
        assert [token for token, _ in top] == given[row].topk(3).indices.tolist()
    assert likelihoods(given, chosen, 0)[0].top == []


@pytest.mark.parametrize(
    "sampling",
    [{"temperature": -1}, {"temperature": float("nan")}, {"top_p": 1.1}, {"top_p": -0.1}, {"max_tokens": -1}],
)
def test_what_cannot_be_drawn_by_is_refused(sampling: dict[str, float]) -> None:
    with pytest.raises(EngineError):
        check(Sampling(**sampling))
