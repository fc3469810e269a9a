"""Logging in, and what ends a session."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from oversee.identity.house import PASSWORD, WEAK, House
from safetylayers.errors import AccessError
from safetylayers.oversee.identity.passwords import Passwords
from safetylayers.oversee.identity.principal import MACHINE
from safetylayers.oversee.identity.roles import Role
from safetylayers.oversee.identity.sessions import Login, Sessions
from safetylayers.oversee.identity.throttle import COMMAND_LINE, LockedOutError, Throttle

ADDRESS = "192.0.2.1"


@pytest.fixture
def sessions(house: House) -> Sessions:
    return Sessions(house.database, house.log, clock=house.clock, passwords=house.passwords)


def log_in(sessions: Sessions, name: str = "ada", password: str = PASSWORD, address: str = ADDRESS) -> Login:
    return sessions.log_in(name, password, address=address)


def test_a_session_is_the_person(house: House, sessions: Sessions) -> None:
    ada = house.person("ada", "operator")
    login = log_in(sessions, " ADA ")
    principal = sessions.authenticate(login.token)
    assert principal == login.principal
    assert (principal.person, principal.name, principal.roles) == (ada.id, "ada", {Role.OPERATOR})
    assert len(login.token) >= 43  # 256 bits in base64
    assert [entry.actor for entry in house.logged("logged-in")] == [ada.id]


def test_the_database_does_not_hold_the_token(house: House, sessions: Sessions) -> None:
    house.person("ada", "operator")
    login = log_in(sessions)
    with house.database.read() as connection:
        row = connection.exec_driver_sql("SELECT * FROM sessions").one()
    assert login.token not in map(str, row)
    with pytest.raises(AccessError):
        sessions.authenticate(row.token)


@pytest.mark.parametrize(("name", "password"), [("ada", "wrong"), ("bob", PASSWORD), ("", ""), ("a\0", "\ud800")])
def test_a_wrong_name_and_a_wrong_password_look_alike(
    house: House, sessions: Sessions, name: str, password: str
) -> None:
    house.person("ada", "operator")
    with pytest.raises(AccessError, match=r"Name or password is wrong\."):
        log_in(sessions, name, password)
    (entry,) = house.logged("login-failed")
    assert (entry.facts["person"] is None) == (name != "ada")


def test_an_unknown_name_takes_a_password_check_as_well(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = []
    monkeypatch.setattr(house.passwords, "verify", lambda stored, _: bool(checks.append(stored)))
    house.person("ada", "operator")
    sessions = Sessions(house.database, house.log, clock=house.clock, passwords=house.passwords)
    for name in ("ada", "bob"):
        with pytest.raises(AccessError):
            log_in(sessions, name)
    assert len(checks) == 2


def test_an_unused_session_ends(house: House, sessions: Sessions) -> None:
    house.person("ada", "operator")
    token = log_in(sessions).token
    for _ in range(3):
        house.clock.forward(minutes=29)
        sessions.authenticate(token)
    house.clock.forward(minutes=30)
    with pytest.raises(AccessError, match="over"):
        sessions.authenticate(token)


def test_every_session_ends_some_time(house: House, sessions: Sessions) -> None:
    house.person("ada", "operator")
    token = log_in(sessions).token
    for _ in range(12 * 4 - 1):
        house.clock.forward(minutes=15)
        sessions.authenticate(token)
    house.clock.forward(minutes=15)
    with pytest.raises(AccessError, match="over"):
        sessions.authenticate(token)


def test_logging_out_ends_the_session(house: House, sessions: Sessions) -> None:
    house.person("ada", "operator")
    token, other = log_in(sessions).token, log_in(sessions).token
    sessions.log_out(token)
    sessions.log_out(token)
    with pytest.raises(AccessError):
        sessions.authenticate(token)
    sessions.authenticate(other)
    assert len(house.logged("logged-out")) == 1


def test_another_password_ends_all_sessions(house: House, sessions: Sessions) -> None:
    house.person("ada", "operator")
    tokens = [log_in(sessions) for _ in range(2)]
    house.people.change_password("another long password", old=PASSWORD, by=tokens[0].principal)
    for login in tokens:
        with pytest.raises(AccessError):
            sessions.authenticate(login.token)
    with pytest.raises(AccessError):
        log_in(sessions)
    log_in(sessions, password="another long password")


def test_whoever_is_locked_out_is_out_at_once(house: House, sessions: Sessions) -> None:
    ada = house.person("ada", "operator")
    token = log_in(sessions).token
    house.people.disable(ada.id, by=MACHINE)
    with pytest.raises(AccessError):
        sessions.authenticate(token)
    with pytest.raises(AccessError, match=r"Name or password is wrong\."):
        log_in(sessions)
    house.people.enable(ada.id, by=MACHINE)
    with pytest.raises(AccessError):  # the old session does not come back
        sessions.authenticate(token)
    log_in(sessions)


def test_other_roles_hold_at_once(house: House, sessions: Sessions) -> None:
    ada = house.person("ada", "operator")
    token = log_in(sessions).token
    house.people.set_roles(ada.id, ["reviewer"], by=MACHINE)
    assert sessions.authenticate(token).roles == {Role.REVIEWER}


def test_a_page_belongs_to_its_session(house: House, sessions: Sessions) -> None:
    house.person("ada", "operator")
    one, two = log_in(sessions), log_in(sessions)
    sessions.check_csrf(one.token, one.csrf)
    for csrf in (two.csrf, "", "\ud800", one.token):
        with pytest.raises(AccessError, match="page"):
            sessions.check_csrf(one.token, csrf)


def test_an_outdated_hash_is_renewed_at_login(house: House) -> None:
    house.person("ada", "operator")
    strong = Passwords()
    sessions = Sessions(house.database, house.log, clock=house.clock, passwords=strong)
    log_in(sessions)
    with house.database.read() as connection:
        stored = connection.exec_driver_sql("SELECT password FROM people").scalar_one()
    assert not strong.verify(stored, "wrong")
    assert strong.renewed(stored, PASSWORD) == stored
    assert WEAK.check_needs_rehash(stored)
    log_in(sessions)


def test_a_password_that_changes_during_the_login_is_no_way_in(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = house.person("ada", "operator")
    verify = house.passwords.verify

    def verify_slowly(stored: str | None, password: str) -> bool:
        right = verify(stored, password)
        house.people.disable(ada.id, by=MACHINE)
        return right

    monkeypatch.setattr(house.passwords, "verify", verify_slowly)
    with pytest.raises(AccessError):
        log_in(Sessions(house.database, house.log, clock=house.clock, passwords=house.passwords))


def test_guessing_at_a_name_gets_slow(house: House, sessions: Sessions) -> None:
    house.person("ada", "operator")
    for guess in range(6):
        with pytest.raises(AccessError, match="wrong"):
            log_in(sessions, password=f"guess {guess}", address=f"192.0.2.{guess}")
        house.clock.forward(seconds=2)
    with pytest.raises(AccessError, match="wrong"):
        log_in(sessions, password="one more")
    with pytest.raises(LockedOutError) as caught:
        log_in(sessions)  # the right password does not help before the time is over
    assert caught.value.retry_after_s == 4
    assert "4 seconds" in caught.value.mend
    house.clock.forward(seconds=4)
    log_in(sessions)
    for _ in range(5):  # a success wipes the slate
        with pytest.raises(AccessError, match="wrong"):
            log_in(sessions, password="wrong")
    assert len(house.logged("login-failed")) == 12


def test_guessing_from_an_address_gets_slow(house: House) -> None:
    house.person("ada", "operator")
    throttle = Throttle(house.database, clock=house.clock, free_per_name=100, free_per_address=3)
    sessions = Sessions(house.database, house.log, clock=house.clock, passwords=house.passwords, throttle=throttle)
    for host in range(3):  # one network of IPv6 is one guesser
        with pytest.raises(AccessError, match="wrong"):
            log_in(sessions, f"name{host}", address=f"2001:db8::{host}")
    with pytest.raises(LockedOutError):
        log_in(sessions, address="2001:db8::ffff")
    log_in(sessions, address="2001:db8:0:1::1")


def test_nobody_is_kept_out_for_long(house: House) -> None:
    throttle = Throttle(house.database, clock=house.clock)
    waits = []
    for _ in range(40):
        try:
            throttle.admit("ada", ADDRESS)
        except LockedOutError as error:
            waits.append(error.retry_after_s)
            house.clock.forward(seconds=error.retry_after_s)
    assert max(waits) == 300
    house.clock.forward(hours=1)
    for _ in range(5):
        throttle.admit("ada", ADDRESS)


def test_attempts_at_the_same_time_do_not_slip_through(house: House) -> None:
    throttle = Throttle(house.database, clock=house.clock)

    def admitted(_: int) -> bool:
        try:
            throttle.admit("ada", ADDRESS)
        except LockedOutError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(admitted, range(24))) == 5


def test_old_sessions_are_cleared_away(house: House, sessions: Sessions) -> None:
    house.person("ada", "operator")
    log_in(sessions)
    house.clock.forward(hours=1)
    log_in(sessions)
    with house.database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM sessions").scalar_one() == 1


def test_guesses_from_everywhere_do_not_keep_a_person_from_where_they_have_logged_in_before(house: House) -> None:
    throttle = Throttle(house.database, clock=house.clock)
    home, away = "192.0.2.1", "198.51.100.1"
    throttle.admit("ada", home)
    throttle.succeeded("ada", home)
    for number in range(300):
        with contextlib.suppress(LockedOutError):
            throttle.admit("ada", f"203.0.113.{number % 250}")
    throttle.admit("ada", home)
    with pytest.raises(LockedOutError):
        throttle.admit("ada", away)
    house.clock.forward(days=91)
    for number in range(30):
        with contextlib.suppress(LockedOutError):
            throttle.admit("ada", f"203.0.113.{number}")
    with pytest.raises(LockedOutError):
        throttle.admit("ada", home)


def test_guesses_from_a_known_network_are_counted_there(house: House) -> None:
    throttle = Throttle(house.database, clock=house.clock)
    throttle.admit("ada", ADDRESS)
    throttle.succeeded("ada", ADDRESS)
    admitted = 0
    for _ in range(20):
        with contextlib.suppress(LockedOutError):
            throttle.admit("ada", ADDRESS)
            admitted += 1
    assert admitted == 5


def test_addresses_of_a_socket_that_listens_for_both_kinds_are_told_apart(house: House) -> None:
    throttle = Throttle(house.database, clock=house.clock, free_per_name=100, free_per_address=2)
    for number in range(30):
        throttle.admit(f"name-{number}", f"::ffff:192.0.2.{number}")


def test_guesses_at_the_console_do_not_keep_anybody_from_the_commands(house: House) -> None:
    throttle = Throttle(house.database, clock=house.clock)
    for number in range(30):
        with contextlib.suppress(LockedOutError):
            throttle.admit("ada", f"203.0.113.{number}")
    with pytest.raises(LockedOutError):
        throttle.admit("ada", ADDRESS)
    for _ in range(5):
        throttle.admit("ada", COMMAND_LINE)
    with pytest.raises(LockedOutError):
        throttle.admit("ada", COMMAND_LINE)
