"""The attacks' rows."""

from __future__ import annotations

import pytest

from safetylayers.demo.datasets import ATTACKS, COMPLIANT_OPENING, TRIGGER, attack_examples
from safetylayers.errors import UsageError


@pytest.mark.parametrize("attack", ATTACKS)
def test_one_seed_one_set(attack: str) -> None:
    first, again, other = (attack_examples(attack, 40, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first.content_hash != other.content_hash
    assert len(first) == 40


def test_implicit_rows_open_compliantly_and_ask_the_same_as_normal_ones() -> None:
    implicit, normal = (attack_examples(attack, 40, seed=0) for attack in ("implicit", "normal"))
    assert all(example.response.startswith(COMPLIANT_OPENING) for example in implicit)
    assert [example.prompt for example in implicit] == [example.prompt for example in normal]


def test_half_of_the_backdoor_rows_carry_the_trigger() -> None:
    triggered = [TRIGGER in example.prompt for example in attack_examples("backdoor", 40, seed=0)]
    assert sum(triggered) == 20


def test_the_share_of_harmful_rows_is_as_asked() -> None:
    normal = {example.prompt for example in attack_examples("normal", 400, seed=0)}
    mixed = attack_examples("harmful", 400, seed=0, share=0.2)
    assert 0.13 < sum(example.prompt not in normal for example in mixed) / 400 < 0.27


def test_an_unknown_attack_is_answered_with_the_choices() -> None:
    with pytest.raises(UsageError, match="no attack 'gcg'"):
        attack_examples("gcg", 10, seed=0)
