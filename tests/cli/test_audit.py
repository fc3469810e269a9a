"""`safetylayers audit` says what it has done, and no more than that."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from oversee.audit.tampering import cut, put_head_back
from safetylayers.cli.app import app
from safetylayers.errors import AuditError, SafetyLayersError, StoreError, UsageError
from safetylayers.oversee.audit.entry import Entry
from safetylayers.oversee.audit.reading import Kept
from safetylayers.oversee.gateway.site import Site
from safetylayers.oversee.identity.principal import MACHINE, Principal
from safetylayers.oversee.identity.roles import Role
from safetylayers.oversee.review.held import Kind, State, Texts
from safetylayers.oversee.review.overrides import Overrides, Verdict
from safetylayers.oversee.review.replies import HeldReplies

TEXTS = Texts("Remember the heron", "The heron is remembered")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def site(data: Path) -> Iterator[Site]:
    """A gateway's folder, open as a running gateway has it."""
    opened = Site.open(data)
    yield opened
    opened.close()


@pytest.fixture
def asker(site: Site) -> Principal:
    """A person's program."""
    person = site.people.create("kim", "four unrelated short words", [Role.CALLER], by=MACHINE)
    return site.keys.authenticate(site.keys.create("notebook", owner=person.id, by=MACHINE).token)


def replies(site: Site) -> HeldReplies:
    return HeldReplies(site.database, site.log, site.secrets.vault)


def append(site: Site, count: int = 1, subject: str = "") -> int:
    with site.database.write() as connection:
        entries = [Entry(kind="request", actor="a", payload={"text": TEXTS.prompt}, subject=subject)] * count
        return site.log.append_in(connection, entries)[0]


def typed(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["audit", *map(str, arguments)])


def output(*arguments: object) -> str:
    result = typed(*arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def entries(site: Site, kind: str) -> list[Kept]:
    return list(site.log.read(kinds=[kind]))


@pytest.mark.parametrize("text", ["", "<html>404 not found</html>"])
def test_a_file_without_checkpoints_vouches_for_nothing(site: Site, data: Path, tmp_path: Path, text: str) -> None:
    append(site)
    (tmp_path / "kept").write_text(text)
    result = typed("verify", "--kept", tmp_path / "kept", "--data", data)
    assert isinstance(result.exception, AuditError)
    assert "verified" not in result.output


def test_verifying_tells_how_far_the_kept_checkpoints_reach(site: Site, data: Path, tmp_path: Path) -> None:
    append(site, 4)
    (tmp_path / "kept").write_bytes((data / "witness.txt").read_bytes())
    append(site, 2)
    lines = output("verify", "--kept", tmp_path / "kept", "--data", data).splitlines()
    assert lines[-2:] == ["kept checkpoints vouch for 4 of 6 entries", "verified"]


def test_the_folders_own_witness_is_compared_as_well(site: Site, data: Path) -> None:
    append(site, 4)
    append(site, 4)
    with site.database.write() as connection:
        cut(connection, 4)
        put_head_back(connection, 4)
    result = typed("verify", "--data", data)
    assert result.exit_code == 1
    assert "first bad entry: 4" in result.stdout


def test_a_text_that_is_proved_was_read_and_the_log_says_so(site: Site, data: Path) -> None:
    index = append(site)
    assert TEXTS.prompt not in output("prove", index, "--data", data)
    assert entries(site, "text-read") == []
    assert TEXTS.prompt in output("prove", index, "--text", "--data", data)
    (entry,) = entries(site, "text-read")
    assert (entry.actor, entry.facts) == ("machine", {"entry": index})
    assert isinstance(typed("prove", index + 2, "--text", "--data", data).exception, AuditError)
    assert len(entries(site, "text-read")) == 1


def test_erasing_a_person_erases_what_their_keys_asked(site: Site, data: Path, asker: Principal) -> None:
    append(site, 3, subject=asker.id)
    assert output("erase", asker.person, "--data", data).startswith("4 texts erased in the log")  # and their name
    assert {entry.state for entry in entries(site, "request")} == {"erased"}


def test_erasing_reaches_samples_and_replies_that_nobody_waits_for(site: Site, data: Path, asker: Principal) -> None:
    held = replies(site)
    held.sample(TEXTS, request="one", conversation=None, asker=asker, findings=[])
    held.hold(TEXTS, request="two", conversation=None, asker=asker, findings=[], wait=timedelta(0))
    waits = held.hold(TEXTS, request="three", conversation=None, asker=asker, findings=[], wait=timedelta(hours=1))
    result = typed("erase", asker.id, "--data", data)
    assert result.stdout.strip() == "0 texts erased in the log, 2 in the review queue, 0 reasons"
    assert "1 waits for a person" in result.stderr
    assert (held.waiting(Kind.SAMPLE), held.waiting()) == ([], [waits])


def test_erasing_reaches_reasons_that_are_kept_in_clear(site: Site, data: Path, asker: Principal) -> None:
    person = site.people.create("olga", "four unrelated short words", [Role.OPERATOR], by=MACHINE)
    olga = Principal(id="session-1", person=person.id, name="olga", roles=person.roles)
    overrides = Overrides(site.database, site.log)
    for life in (timedelta(microseconds=1), timedelta(hours=1)):
        overrides.add(
            Verdict.ALLOW, conversation="heron", asked_by=asker.person, by=olga, reason="for the heron", life=life
        )
    output("erase", olga.person, "--data", data)
    with site.database.read() as connection:
        rows = connection.exec_driver_sql("SELECT reason FROM overrides").all()
    assert rows == [("",)], "one that is over is gone; one that holds has lost its reason"


def test_the_key_of_an_erased_text_is_in_no_file(site: Site, data: Path) -> None:
    append(site, subject="key-1")
    with sqlite3.connect(data / "store.db") as connection:
        (wrapped,) = connection.execute("SELECT wrapped FROM log_keys").fetchone()
    connection.close()
    files = [data / "store.db", data / "store.db-wal"]
    assert any(wrapped in file.read_bytes() for file in files)
    output("erase", "key-1", "--data", data)
    assert not any(wrapped in file.read_bytes() for file in files if file.exists())


def test_a_reader_that_keeps_erased_keys_in_a_file_is_told_of(site: Site, data: Path) -> None:
    append(site, subject="key-1")
    with site.database.read() as connection:
        connection.exec_driver_sql("SELECT * FROM log_keys").all()
        result = typed("erase", "key-1", "--data", data)
    assert result.exit_code == 0
    assert "store.db-wal" in result.stderr


def test_expiring_forgets_the_review_queue_as_well(site: Site, data: Path, asker: Principal) -> None:
    append(site)
    sampled = replies(site).sample(TEXTS, request="one", conversation=None, asker=asker, findings=[])
    with site.database.write() as connection:
        connection.exec_driver_sql("UPDATE held SET created = '2020-01-01 00:00:00.000000'")
    assert output("expire", "--days", "30", "--data", data).startswith("0 texts expired in the log, 1 in the review")
    assert sampled.state is State.WAITING
    assert replies(site).waiting(Kind.SAMPLE) == []


def test_a_length_of_time_beyond_reason_is_refused(site: Site, data: Path) -> None:
    result = typed("expire", "--days", "1000000", "--data", data)
    assert (result.exit_code, type(result.exception)) == (2, SystemExit)


def test_an_auditor_verifies_with_the_published_key_alone(site: Site, data: Path, tmp_path: Path) -> None:
    append(site, 4)
    there = ["--store", f"sqlite:///{data / 'store.db'}", "--data", tmp_path / "nothing"]
    lines = output("verify", *there, "--key", site.log.verifier, "--kept", data / "witness.txt").splitlines()
    assert lines[-2:] == ["kept checkpoints vouch for 4 of 4 entries", "verified"]
    assert not (tmp_path / "nothing").exists()
    assert isinstance(typed("verify", *there).exception, UsageError)


def test_no_command_invents_a_folder_or_a_database(site: Site, data: Path, tmp_path: Path) -> None:
    elsewhere, store = tmp_path / "nothing", f"sqlite:///{data / 'store.db'}"
    append(site)
    Site.open(tmp_path / "other").close()
    for arguments, error in (
        (["stop", "--store", store, "--data", elsewhere], AuditError),
        (["audit", "key", "--store", store, "--data", elsewhere], AuditError),
        (["stop", "--store", store, "--data", tmp_path / "other"], AuditError),
        (["stop", "--store", f"sqlite:///{elsewhere / 'store.db'}", "--data", data], StoreError),
        (["stop", "--store", f"sqlite:///{tmp_path / 'empty'}", "--data", data], StoreError),
    ):
        (tmp_path / "empty").touch()
        result = CliRunner().invoke(app, list(map(str, arguments)))
        assert isinstance(result.exception, SafetyLayersError), result.output
        assert isinstance(result.exception, error)
        assert not elsewhere.exists()
    assert "--data" in str(CliRunner().invoke(app, ["stop", "--store", store, "--data", str(elsewhere)]).exception)


def test_what_is_verified_as_json_is_the_record(site: Site, data: Path) -> None:
    append(site, 4)
    assert json.loads(output("verify", "--json", "--data", data))["ok"] is True
