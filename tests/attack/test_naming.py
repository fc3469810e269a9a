"""Attacks by name: what a text stands for, and what is wrong with those that stand for nothing."""

from __future__ import annotations

import pytest

from safetylayers.attack import Embedding, Prefill, Templates
from safetylayers.attack.naming import KINDS, parse_attacks, settable
from safetylayers.errors import UsageError


def test_a_bare_name_may_stand_for_several_runs() -> None:
    found = parse_attacks("prefill,templates")
    assert list(found.values()) == [*map(Prefill, (1, 5, 10, 20, 40)), Templates()]
    assert next(iter(found)) == "prefill:tokens=1"


def test_settings_belong_to_the_name_before_them() -> None:
    found = parse_attacks("embedding:restarts=3,learning_rate=0.2, prefill:tokens=4")
    assert found == {
        "embedding:restarts=3,learning_rate=0.2": Embedding(restarts=3, learning_rate=0.2),
        "prefill:tokens=4": Prefill(4),
    }


def test_a_budget_fills_what_the_text_does_not_say() -> None:
    quick, strong = (parse_attacks("embedding:steps=5", budget=budget) for budget in ("quick", "strong"))
    assert next(iter(quick.values())) == Embedding(restarts=2, steps=5)
    assert next(iter(strong.values())) == Embedding(restarts=20, steps=5)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "No attack is named"),
        ("prefil", "no attack 'prefil'"),
        ("steps=3", "a setting without an attack"),
        ("templates:tokens=3", "templates has no setting 'tokens'"),
        ("prefill:tokens=ten", "no whole number"),
        ("embedding:name=mine", "no setting 'name'"),
    ],
)
def test_what_stands_for_nothing_is_told(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        parse_attacks(text)


@pytest.mark.parametrize("name", KINDS)
def test_every_attack_is_known_by_its_own_name_and_its_budgets_can_be_set(name: str) -> None:
    kind = KINDS[name]
    assert kind.attack.name == name  # type: ignore[attr-defined]  # the dataclass field's default
    for settings in (*kind.runs, *kind.budgets.values()):
        assert set(settings) <= set(settable(name))
