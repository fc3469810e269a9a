"""People are made, changed and locked out, and each of that is logged."""

from __future__ import annotations

import threading

import pytest

from oversee.identity.house import PASSWORD, WEAK, House, acting
from safetylayers.errors import AccessError
from safetylayers.oversee.identity.passwords import LONGEST, Passwords
from safetylayers.oversee.identity.principal import MACHINE
from safetylayers.oversee.identity.roles import Role


def test_a_person_is_stored_without_the_password(house: House) -> None:
    ada = house.person(" Ada ", "operator", "reviewer")
    assert house.people.get(ada.id) == ada
    assert (ada.name, ada.roles) == ("ada", {Role.OPERATOR, Role.REVIEWER})
    with house.database.read() as connection:
        row = connection.exec_driver_sql("SELECT password FROM people").one()
    assert row.password.startswith("$argon2id$")
    assert PASSWORD not in row.password


def test_a_name_is_one_persons(house: House) -> None:
    house.person("ada", "caller")
    with pytest.raises(AccessError, match="already"):
        house.person("ADA", "caller")
    assert len(house.people.everybody()) == 1


@pytest.mark.parametrize("name", ["", " ", "a b", "-a", "a" * 65, "a\0b", "<script>"])
def test_odd_names_are_refused(house: House, name: str) -> None:
    with pytest.raises(AccessError):
        house.person(name, "caller")


@pytest.mark.parametrize("password", ["", "elevenchars", "ada.lovelace", "Ada.LovelaceADA.lovelace", "x" * 1025])
def test_bad_passwords_are_refused(house: House, password: str) -> None:
    with pytest.raises(AccessError):
        house.people.create("ada.lovelace", password, ["caller"], by=MACHINE)
    assert house.people.everybody() == []


def test_only_administrators_make_people(house: House) -> None:
    with pytest.raises(AccessError, match="manage-people"):
        house.people.create("eve", PASSWORD, ["admin"], by=house.principal("bob", "operator"))


def test_nobody_changes_their_own_roles_or_access(house: House) -> None:
    admin = house.principal("ada", "admin")
    for change in (
        lambda: house.people.set_roles(admin.person, ["admin", "operator"], by=admin),
        lambda: house.people.disable(admin.person, by=admin),
    ):
        with pytest.raises(AccessError, match="their own"):
            change()


def test_roles_and_access_are_changed_by_another(house: House) -> None:
    admin, bob = house.principal("ada", "admin"), house.person("bob", "caller")
    assert house.people.set_roles(bob.id, ["reviewer"], by=admin).roles == {Role.REVIEWER}
    assert house.people.disable(bob.id, by=admin).disabled
    assert not house.people.enable(bob.id, by=admin).disabled
    (entry,) = house.logged("person-roles-set")
    assert entry.actor == admin.actor
    assert entry.facts == {"person": bob.id, "roles": ["reviewer"]}


def test_names_and_passwords_are_not_in_clear_in_the_log(house: House) -> None:
    house.person("zoe", "caller")
    (entry,) = house.logged("person-created")
    assert entry.payload == {"name": "zoe"}
    with house.database.read() as connection:
        leaves = [bytes(row.leaf) for row in connection.exec_driver_sql("SELECT leaf FROM log_entries")]
    assert not any(b"zoe" in leaf or PASSWORD.encode() in leaf for leaf in leaves)


def test_a_change_that_cannot_be_logged_is_not_made(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr(house.log, "append_in", fail)
    with pytest.raises(OSError, match="no room"):
        house.person("ada", "caller")
    assert house.people.everybody() == []


def test_a_password_is_changed_by_whoever_knows_it(house: House) -> None:
    ada = acting(house.person("ada", "caller"))
    with pytest.raises(AccessError, match="old password"):
        house.people.change_password("another long password", old="wrong", by=ada)
    house.people.change_password("another long password", old=PASSWORD, by=ada)
    house.people.change_password(PASSWORD, old="another long password", by=ada)


def test_nobody_is_found_under_an_unknown_id(house: House) -> None:
    with pytest.raises(AccessError, match="Nobody"):
        house.people.set_roles("nobody", ["caller"], by=MACHINE)


def test_of_two_who_take_a_name_at_once_one_gets_it(house: House) -> None:
    results: list[str] = []

    def create() -> None:
        try:
            house.person("ada", "caller")
            results.append("made")
        except AccessError:
            results.append("refused")

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["made", "refused", "refused", "refused"]


def test_a_hash_follows_the_parameters() -> None:
    weak, strong = Passwords(WEAK), Passwords()
    stored = weak.hash(PASSWORD, name="ada")
    assert weak.renewed(stored, PASSWORD) == stored
    renewed = strong.renewed(stored, PASSWORD)
    assert renewed != stored
    assert strong.verify(renewed, PASSWORD)


def test_passwords_compare_as_people_see_them() -> None:
    passwords = Passwords(WEAK)
    stored = passwords.hash("caf\u00e9 caf\u00e9 caf\u00e9", name="ada")
    assert passwords.verify(stored, "cafe\u0301 cafe\u0301 cafe\u0301")


@pytest.mark.parametrize("typed", ["", "\ud800", "x" * (LONGEST * 10), "a\0b"])
def test_whatever_is_typed_is_no_error(typed: str) -> None:
    passwords = Passwords(WEAK)
    assert not passwords.verify(passwords.hash(PASSWORD, name="ada"), typed)
    assert not passwords.verify(None, typed)
    assert not passwords.verify("no hash at all", typed)


def test_nobodys_password_lets_nobody_in() -> None:
    assert not Passwords(WEAK).verify(None, "nobody has this password")
