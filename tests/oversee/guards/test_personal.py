from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from oversee.guards.streaming import CUTS, assert_cuts_change_nothing, found_in, held
from safetylayers.oversee.guards import Passage
from safetylayers.oversee.guards.personal import PERSONAL as KINDS
from safetylayers.oversee.guards.personal import PersonalGuard, PersonalSettings, SecretsGuard

PERSONAL = PersonalGuard("personal")
SECRETS = SecretsGuard("secrets")
# The pieces of keys are put together here, so that no scanner takes this file for a leak.
PEM = "-----BEGIN " + "RSA PRIVATE KEY-----\n" + "MIIEpAIBAAKCAQEA7bq\nXyz\n" * 3 + "-----END RSA PRIVATE KEY-----"
KEYS = {
    "sk": "sk-" + "proj-abcDEF1234567890abcdef",
    "amazon": "AKIA" + "IOSFODNN7EXAMPLE",
    "github": "ghp_" + "a1B2" * 9,
    "google": "AIza" + "Sy0_" * 8 + "abc",
}


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("email", "jane.doe+news@mail.example.com"),
        ("email", "jürgen@bücher.example"),
        ("email", "ｊａｎｅ＠ｅｘａｍｐｌｅ．ｃｏｍ"),
        ("email", "ja\u200bne@exam\u00adple.com"),
        ("card", "4111111111111111"),
        ("card", "4111 1111 1111 1111"),
        ("card", "4111-1111-1111-1111"),
        ("card", "4111 - 1111 - 1111 - 1111"),
        ("card", "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1"),
        ("card", "3782 822463 10005"),
        ("card", "5555\u00a05555\u00a05555\u00a04444"),
        ("card", "４１１１１１１１１１１１１１１１"),
        ("card", "4\u200b1\u200b1\u200b1 1111 1111 1111"),
        ("card", "٤١١١ ١١١١ ١١١١ ١١١١"),
        ("iban", "DE89370400440532013000"),
        ("iban", "DE89 3704 0044 0532 0130 00"),
        ("iban", "gb82 west 1234 5698 7654 32"),
        ("iban", "FR14-2004-1010-0505-0001-3M02-606"),
        ("ssn", "536-90-4399"),
        ("ssn", "536\u201390\u20134399"),
        ("phone", "212-555-1234"),
        ("phone", "(212) 555-1234"),
        ("phone", "+44 20 7946 0958"),
        ("phone", "＋４４ ２０ ７９４６ ０９５８"),
        ("ip", "203.0.113.77"),
        ("ip", "2001:db8:85a3::8a2e:370:7334"),
    ],
)
def test_personal_data_is_found_alone_and_whole(kind: str, found: str) -> None:
    assert found_in(PERSONAL, f"Please note: {found}, thank you.") == [(kind, found)]
    assert found_in(PERSONAL, found) == [(kind, found)]


@pytest.mark.parametrize("key", [PEM, *KEYS.values()])
def test_secrets_are_found_alone_and_whole(key: str) -> None:
    assert [text for _, text in found_in(SECRETS, f"Here: {key} and more.")] == [key]


@pytest.mark.parametrize(
    "text",
    [
        "Version 1.2.3.4 and v10.0.0.1, then 1.2.3 and 2.0.1-rc1",
        "at 2024-01-15 10:30:00, 2024-01-15T10:30:00Z, 1705312800, 1705312800123, 20240115103000",
        "the order 4111111111111112, the part 12345678901234567890123456789",
        "pi is 3.14159265358979323846 and e is 2.7182818284590452",
        "DE89370400440532013001 is no account, nor is AB12 CDEF 3456 7890",
        "000-12-3456, 666-12-3456, 987-65-4321, 123456789",
        "use std::vector at 12:30:45 on 127.0.0.1 or ::1 with 255.255.255.0",
        "me@here, @somebody, a@b, x @ y.com",
        "1, 2, 3, 10, 20, 30, 100, 200, 300, 1000, 2000, 3000",
    ],
)
def test_what_only_looks_alike_is_no_finding(text: str) -> None:
    assert found_in(PERSONAL, text) == []


@pytest.mark.parametrize(
    "text",
    [
        "The file begins with -----BEGIN PRIVATE KEY----- and goes on in base64.",
        "sk-learn-compatible-estimators, AKIA, ghp_short, skate-boards-are-great-fun-for-all",
        "-----BEGIN CERTIFICATE-----\nMIIEpAIBAAKCAQEA7bq\n-----END CERTIFICATE-----",
    ],
)
def test_talk_about_keys_is_no_finding(text: str) -> None:
    assert found_in(SECRETS, text) == []


def test_a_card_is_found_among_other_numbers() -> None:
    assert found_in(PERSONAL, "order 12345 4111 1111 1111 1111 999") == [("card", "4111 1111 1111 1111")]


@pytest.mark.parametrize("text", ["[212-555-1234]", "<212-555-1234>", "tel:212-555-1234", "212-555-1234/212-555-1234"])
def test_a_telephone_number_is_found_within_signs(text: str) -> None:
    assert set(found_in(PERSONAL, text)) == {("phone", "212-555-1234")}


def test_a_key_without_its_end_is_found_to_the_end() -> None:
    cut_off = PEM[:70]
    assert found_in(SECRETS, f"x {cut_off}") == [("private-key", cut_off)]


def test_a_replacement_says_what_was_there_and_nothing_repeats_it() -> None:
    [finding] = asyncio.run(PERSONAL.check(Passage("output", "It is jane@example.com."))).findings
    assert finding.replacement == "[email removed]"
    assert "jane" not in finding.reason


def test_telephone_numbers_are_those_of_the_region() -> None:
    german = PersonalGuard("personal", PersonalSettings(region="DE", kinds=("phone",)))
    abroad = PersonalGuard("personal", PersonalSettings(region="ZZ", kinds=("phone",)))
    text = "030 901820, +49 30 901820, 212-555-1234"
    assert found_in(german, text) == [("phone", "030 901820"), ("phone", "+49 30 901820")]
    assert found_in(abroad, text) == [("phone", "+49 30 901820")]


def test_only_the_kinds_asked_for_are_found() -> None:
    guard = PersonalGuard("personal", PersonalSettings(kinds=("iban",)))
    assert guard.kinds == ("iban",)
    assert found_in(guard, "jane@example.com DE89370400440532013000") == [("iban", "DE89370400440532013000")]


@pytest.mark.parametrize(
    ("text", "tail"),
    [
        ("Hello there, my ", ""),
        ("Hello there, my name", "name"),
        ("my card is 4111 1111 ", "4111 1111 "),
        ("my card is 4\u200b1", "4\u200b1"),
        ("it costs 5 dollars,", ""),
        ("write to jane@example.c", "jane@example.c"),
        ("write to jane@example.com ", ""),
    ],
)
def test_only_what_may_become_a_finding_is_held_back(text: str, tail: str) -> None:
    assert held(PERSONAL, text) == tail


def test_a_private_key_is_held_back_until_it_ends() -> None:
    assert held(SECRETS, f"x {PEM[:-1]}") == PEM[:-1]
    assert held(SECRETS, f"x {PEM}, ") == ""


ITEMS = [
    "jane.doe@mail.example.com", "a@b.co", "4111 1111 1111 1111", "4111-1111-1111-1111", "378282246310005", "4111",
    "1111", "DE89 3704 0044 0532 0130 00", "gb82west12345698765432", "DE89", "536-90-4399", "123-45-", "(212) 555-1234",
    "+44 20 7946 0958", "+", "(", "10:30", ":", "203.0.113.77", "v1.2.3.4", "2001:db8::1", "fe80::", "2024-01-15 10:30",
    "12345678901234567890", "4\u200b1", "４１", "–", " ", " ", ", ", ". ", "\n", "x", "and ", "@", ".com",
]  # fmt: skip
TEXTS = st.one_of(
    st.lists(st.sampled_from(ITEMS), max_size=12).map("".join),
    st.text("0123456789 .-+():@abDE\u200b１", max_size=60),
    st.text(max_size=30),
)
# Each kind by itself as well: together, one holds back for another.
GUARDS = [PERSONAL, *(PersonalGuard(kind, PersonalSettings(kinds=(kind,))) for kind in KINDS)]


@settings(max_examples=600, deadline=None)
@given(TEXTS, CUTS, st.sampled_from(GUARDS))
@example("4111 1111 1111 1111.4111 1111 1111 1111", [0.1, 0.5, 0.9], PERSONAL)
@example("2125551234:30 2125551234: 30", [0.36, 0.4, 0.45, 0.9], PERSONAL)
def test_cuts_change_nothing_for_personal_data(text: str, cuts: list[float], guard: PersonalGuard) -> None:
    assert_cuts_change_nothing(guard, text, cuts)


SECRET_ITEMS = [
    PEM, PEM[:40], PEM[-29:], "-----BEGIN", "-----", "-", "PRIVATE KEY", "\\n", "\n", *KEYS.values(), "sk-", "AKIA",
    "eXaMpLe123", "_", " ", ". ", "and", "Proc-Type: 4", "A" * 16,
]  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(SECRET_ITEMS), max_size=10).map("".join), CUTS)
def test_cuts_change_nothing_for_secrets(text: str, cuts: list[float]) -> None:
    assert_cuts_change_nothing(SECRETS, text, cuts)


@pytest.mark.parametrize(
    "text", ["a" * 20_000, "a.a@" * 5_000, "x@" + "a." * 10_000, "-" * 20_000, "-----BEGIN " * 2_000]
)
def test_no_text_takes_long(text: str) -> None:
    begun = time.monotonic()
    found_in(PERSONAL, text)
    found_in(SECRETS, text)
    assert time.monotonic() - begun < 2
