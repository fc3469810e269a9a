"""Keys work until they expire, are rotated or revoked, or their owner goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from oversee.identity.house import House, acting
from safetylayers.errors import AccessError
from safetylayers.oversee.identity.keys import Keys
from safetylayers.oversee.identity.principal import MACHINE
from safetylayers.oversee.identity.roles import Role


@pytest.fixture
def keys(house: House) -> Keys:
    """Without a cache: what is changed is seen at once."""
    return Keys(house.database, house.log, clock=house.clock, cached_s=0)


def test_a_key_is_its_owner_with_the_keys_roles(house: House, keys: Keys) -> None:
    ada = house.person("ada", "caller", "operator")
    made = keys.create("batch", owner=ada.id, by=MACHINE, models=["small"], requests_per_minute=60)
    principal = keys.authenticate(made.token)
    assert made.token.startswith(f"sl-{made.key.id}-")
    assert (principal.person, principal.name, principal.roles) == (ada.id, "ada (batch)", {Role.CALLER})
    assert (principal.models, principal.requests_per_minute) == ({"small"}, 60)
    assert principal.expires == house.clock() + timedelta(days=90)
    assert [key.id for key in keys.all(owner=ada.id)] == [made.key.id]
    assert keys.all(owner="another") == []


def test_the_secret_is_stored_nowhere(house: House, keys: Keys) -> None:
    made = keys.create("batch", owner=house.person("ada", "caller").id, by=MACHINE)
    secret = made.token.removeprefix(f"sl-{made.key.id}-")
    with house.database.read() as connection:
        for table in ("keys", "log_entries"):
            for row in connection.exec_driver_sql(f"SELECT * FROM {table}"):
                assert not any(secret in str(value) for value in row)
    assert secret not in repr(made.key)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda token: token[:-1] + ("a" if token[-1] != "a" else "b"),
        lambda token: token[:-1],
        lambda token: token + "a",
        lambda token: "sl-0123456789abcdef" + token[19:],
        lambda _: "",
        lambda _: "sl--",
        lambda _: "sk-abc",
        lambda _: "\ud800\0",
    ],
)
def test_another_token_is_unknown(house: House, keys: Keys, spoil: Callable[[str], str]) -> None:
    made = keys.create("batch", owner=house.person("ada", "caller").id, by=MACHINE)
    with pytest.raises(AccessError, match=r"unknown|no key"):
        keys.authenticate(spoil(made.token))
    keys.authenticate(made.token)


def test_a_key_expires(house: House, keys: Keys) -> None:
    made = keys.create("batch", owner=house.person("ada", "caller").id, by=MACHINE, life=timedelta(days=1))
    house.clock.forward(hours=23)
    keys.authenticate(made.token)
    house.clock.forward(hours=1)
    with pytest.raises(AccessError, match="expired"):
        keys.authenticate(made.token)


def test_a_key_in_the_cache_expires_on_time(house: House) -> None:
    keys = Keys(house.database, house.log, clock=house.clock, cached_s=1000)
    made = keys.create("batch", owner=house.person("ada", "caller").id, by=MACHINE)
    keys.authenticate(made.token)
    house.clock.forward(days=90)
    with pytest.raises(AccessError, match="expired"):
        keys.authenticate(made.token)


def test_after_a_rotation_the_old_secret_works_for_a_while(house: House, keys: Keys) -> None:
    made = keys.create("batch", owner=house.person("ada", "caller").id, by=MACHINE)
    house.clock.forward(days=89)
    rotated = keys.rotate(made.key.id, by=MACHINE)
    assert rotated.key.id == made.key.id
    for token in (made.token, rotated.token):
        keys.authenticate(token)
    house.clock.forward(days=1)
    with pytest.raises(AccessError, match="unknown"):
        keys.authenticate(made.token)
    keys.authenticate(rotated.token)
    assert len(house.logged("key-rotated")) == 1


def test_a_second_rotation_ends_the_first_secret(house: House, keys: Keys) -> None:
    made = keys.create("batch", owner=house.person("ada", "caller").id, by=MACHINE)
    second, third = keys.rotate(made.key.id, by=MACHINE), keys.rotate(made.key.id, by=MACHINE)
    with pytest.raises(AccessError, match="unknown"):
        keys.authenticate(made.token)
    keys.authenticate(second.token)
    keys.authenticate(third.token)


def test_a_revoked_key_is_dead_for_ever(house: House, keys: Keys) -> None:
    made = keys.create("batch", owner=house.person("ada", "caller").id, by=MACHINE)
    rotated = keys.rotate(made.key.id, by=MACHINE)
    keys.revoke(made.key.id, by=MACHINE)
    keys.revoke(made.key.id, by=MACHINE)
    for token in (made.token, rotated.token):
        with pytest.raises(AccessError, match="revoked"):
            keys.authenticate(token)
    with pytest.raises(AccessError, match="revoked"):
        keys.rotate(made.key.id, by=MACHINE)
    assert len(house.logged("key-revoked")) == 1


def test_only_who_has_the_secret_learns_that_a_key_is_revoked(house: House, keys: Keys) -> None:
    made = keys.create("batch", owner=house.person("ada", "caller").id, by=MACHINE)
    keys.revoke(made.key.id, by=MACHINE)
    with pytest.raises(AccessError, match="unknown"):
        keys.authenticate(made.token[:-1] + ("a" if made.token[-1] != "a" else "b"))


def test_a_key_goes_with_its_owner(house: House, keys: Keys) -> None:
    ada = house.person("ada", "caller")
    made = keys.create("batch", owner=ada.id, by=MACHINE)
    house.people.disable(ada.id, by=MACHINE)
    with pytest.raises(AccessError, match="revoked"):
        keys.authenticate(made.token)


def test_a_key_has_no_role_that_its_owner_lost(house: House, keys: Keys) -> None:
    ada = house.person("ada", "caller", "operator")
    made = keys.create("tool", owner=ada.id, by=MACHINE, roles=["caller", "operator"])
    house.people.set_roles(ada.id, ["caller"], by=MACHINE)
    assert keys.authenticate(made.token).roles == {Role.CALLER}


def test_a_key_cannot_have_more_than_its_owner(house: House, keys: Keys) -> None:
    ada = house.person("ada", "caller")
    with pytest.raises(AccessError, match="operator"):
        keys.create("tool", owner=ada.id, by=MACHINE, roles=["operator"])
    with pytest.raises(AccessError, match="owner"):
        keys.create("tool", owner="nobody", by=MACHINE)
    assert keys.all() == []


def test_only_administrators_make_keys(house: House, keys: Keys) -> None:
    ada = house.person("ada", "operator", "caller")
    with pytest.raises(AccessError, match="manage-keys"):
        keys.create("tool", owner=ada.id, by=acting(ada))


def test_owners_rotate_and_revoke_their_own_and_nobody_elses(house: House, keys: Keys) -> None:
    ada, eve = house.person("ada", "caller"), house.person("eve", "caller")
    made = keys.create("batch", owner=ada.id, by=MACHINE)
    for change in (keys.rotate, keys.revoke):
        with pytest.raises(AccessError, match="no such key"):
            change(made.key.id, by=acting(eve))
    keys.authenticate(keys.rotate(made.key.id, by=acting(ada)).token)
    keys.revoke(made.key.id, by=acting(ada))


@pytest.mark.parametrize(
    "odd", [{"requests_per_minute": 0}, {"life": timedelta(0)}, {"roles": []}, {"name": " "}, {"name": "a\0b"}]
)
def test_odd_settings_are_refused(house: House, keys: Keys, odd: dict[str, object]) -> None:
    owner = house.person("ada", "caller").id
    with pytest.raises(AccessError):
        keys.create(**{"name": "batch", "owner": owner, "by": MACHINE, **odd})  # type: ignore[arg-type]


def test_the_last_use_is_kept_to_the_hour(house: House, keys: Keys) -> None:
    made = keys.create("batch", owner=house.person("ada", "caller").id, by=MACHINE)
    with pytest.raises(AccessError):
        keys.authenticate(made.token[:-1])
    assert keys.all()[0].used is None
    keys.authenticate(made.token)
    first = house.clock()
    house.clock.forward(minutes=59)
    keys.authenticate(made.token)
    assert keys.all()[0].used == first
    house.clock.forward(minutes=1)
    keys.authenticate(made.token)
    assert keys.all()[0].used == house.clock()


def test_a_busy_gateway_does_not_ask_the_database_each_time(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = Keys(house.database, house.log, clock=house.clock, cached_s=1000)
    made = keys.create("batch", owner=house.person("ada", "caller").id, by=MACHINE)
    assert not keys.knows(made.token)
    keys.authenticate(made.token)
    keys.authenticate(made.token)
    assert keys.knows(made.token)
    monkeypatch.setattr(house.database, "read", lambda: pytest.fail("asked the database"))
    assert keys.authenticate(made.token).roles == {Role.CALLER}
    assert not keys.knows("nonsense")
    with pytest.raises(AccessError, match="unknown"):  # the cache never stands in for the secret
        keys.authenticate(made.token[:-1] + ("a" if made.token[-1] != "a" else "b"))


def test_a_key_that_is_revoked_elsewhere_dies_with_the_cache(house: House) -> None:
    here, there = (Keys(house.database, house.log, clock=house.clock, cached_s=seconds) for seconds in (0.05, 0.05))
    made = here.create("batch", owner=house.person("ada", "caller").id, by=MACHINE)
    here.authenticate(made.token)
    there.revoke(made.key.id, by=MACHINE)
    time.sleep(0.06)
    with pytest.raises(AccessError, match="revoked"):
        here.authenticate(made.token)


def test_a_use_that_has_to_be_written_down_is_not_known_without_the_database(house: House) -> None:
    keys = Keys(house.database, house.log, clock=house.clock, cached_s=1000)
    made = keys.create("batch", owner=house.person("ada", "caller").id, by=MACHINE)
    keys.authenticate(made.token)
    keys.authenticate(made.token)
    house.clock.forward(hours=1)
    assert not keys.knows(made.token)
