"""The commands of somebody in a hurry: stop and restrict, on a folder whose gateways come and go."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection
from typer.testing import CliRunner, Result

from safetylayers.cli.app import app
from safetylayers.errors import StoreError
from safetylayers.oversee.audit.entry import Entry
from safetylayers.oversee.audit.log import AuditLog
from safetylayers.oversee.gateway.site import Site
from safetylayers.oversee.identity.principal import MACHINE
from safetylayers.oversee.modes.change import begin
from safetylayers.oversee.modes.heartbeat import Pulse, beat
from safetylayers.oversee.modes.mode import Mode, read_mode


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site.open(tmp_path / "data")
    begin(site.database, site.log, by=MACHINE)
    yield site
    site.close()


def typed(site: Site, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--data", str(site.folder)])


def reason(site: Site) -> str:
    with site.database.read() as connection:
        return read_mode(connection).reason


@pytest.mark.parametrize("name", ["gpu[/1]", "[red]", "[link=x]y"])
def test_a_replicas_name_is_told_as_it_is(site: Site, name: str) -> None:
    with site.database.write() as connection:
        beat(connection, Pulse(id="one", name=name, lease_s=0.2, epoch=1, running=0, state=Mode.RUN))
    result = typed(site, "stop")
    assert result.exit_code == 0, result.exception
    assert f"{name}: cannot be reached" in result.stderr
    assert "stopped, 1 replicas" in result.stdout


def test_a_measurement_that_is_not_in_the_log_is_said_to_be_missing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = AuditLog.append_in

    def only_the_stop(log: AuditLog, connection: Connection, entries: list[Entry]) -> list[int]:
        if entries[0].kind == "stop-measured":
            raise StoreError("no room")
        return append(log, connection, entries)

    monkeypatch.setattr(AuditLog, "append_in", only_the_stop)
    result = typed(site, "stop")
    assert result.exit_code == 0, result.exception
    assert "could not be written" in result.stderr


@pytest.mark.parametrize("command", [["stop"], ["mode", "restrict"]])
def test_who_it_was_is_kept_however_long_the_reason(
    site: Site, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "somebody")
    assert typed(site, *command, "--reason", "too\u3000much " * 1000).exit_code == 0
    assert reason(site).startswith("too much too much")
    assert reason(site).endswith("(by somebody)")


@pytest.mark.parametrize(
    "arguments",
    [
        ["keys", "create", "notebook", "--owner", "ada", "--days", "100000000"],
        ["keys", "rotate", "3f0c", "--days", "100000000"],
        ["keys", "rotate", "3f0c", "--grace-hours", "100000000000"],
    ],
)
def test_a_key_for_longer_than_there_will_be_time_is_refused_in_words(site: Site, arguments: list[str]) -> None:
    result = typed(site, *arguments)
    assert result.exit_code == 2
    assert "Invalid value for" in result.stderr


def test_a_policy_that_keeps_texts_for_longer_than_there_is_time_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("{version: 1, name: x, keep_days: 1000000}")
    result = CliRunner().invoke(app, ["policy", "check", "--policy", str(file)])
    assert "keep_days" in str(result.exception)
