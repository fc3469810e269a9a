"""Roles allow what the table says, and duties stay apart."""

from __future__ import annotations

import pytest

from safetylayers.errors import AccessError
from safetylayers.oversee.identity.principal import GATEWAY, MACHINE, Principal
from safetylayers.oversee.identity.roles import RIGHTS, Right, Role, checked_roles, rights_of

READING = {Right.SEE_LIVE, Right.READ_AUDIT}


def principal(*roles: Role, models: frozenset[str] | None = None) -> Principal:
    return Principal(id="session-1", person="1", name="ada", roles=frozenset(roles), models=models)


def test_every_role_has_rights_and_every_right_a_role() -> None:
    assert set(RIGHTS) == set(Role)
    assert rights_of(Role) == set(Right)


@pytest.mark.parametrize("role", Role)
def test_a_role_allows_what_the_table_says_and_nothing_else(role: Role) -> None:
    for right in Right:
        assert principal(role).may(right) == (right in RIGHTS[role])


def test_an_auditor_only_reads() -> None:
    assert RIGHTS[Role.AUDITOR] <= READING


def test_who_asks_decides_nothing() -> None:
    assert RIGHTS[Role.CALLER] == {Right.ASK}


def test_who_manages_people_reads_nobodys_texts() -> None:
    assert not RIGHTS[Role.ADMIN] & READING


def test_a_missing_right_is_named() -> None:
    with pytest.raises(AccessError, match=r"ada \(caller\).*stop"):
        principal(Role.CALLER).require(Right.STOP)
    principal(Role.OPERATOR).require(Right.STOP)


@pytest.mark.parametrize("names", [[], ["king"], ["auditor", "operator"]])
def test_odd_roles_are_refused(names: list[str]) -> None:
    with pytest.raises(AccessError):
        checked_roles(names)


def test_duties_can_meet_in_one_person_where_they_may() -> None:
    both = principal(Role.REVIEWER, Role.OPERATOR)
    assert both.may(Right.REVIEW)
    assert both.may(Right.STOP)


def test_models_limit_what_is_asked() -> None:
    assert principal(Role.CALLER).may_ask("any")
    limited = principal(Role.CALLER, models=frozenset({"small"}))
    assert limited.may_ask("small")
    assert not limited.may_ask("large")
    assert not principal(Role.OPERATOR).may_ask("small")


def test_the_gateway_itself_can_stop_but_not_manage() -> None:
    assert GATEWAY.may(Right.STOP)
    assert not GATEWAY.may(Right.MANAGE_PEOPLE)
    assert MACHINE.may(Right.MANAGE_PEOPLE)
