"""The commands around a gateway, on a gateway that really runs in a process of its own."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from oversee.servers import Upstream, running
from safetylayers.cli.app import GROUPS, app
from safetylayers.errors import SafetyLayersError, UsageError

PASSWORD = "a long enough password"
runner = CliRunner()


class Operated:
    """A folder of a gateway and what is typed about it."""

    def __init__(self, data: Path, address: str) -> None:
        self.data, self.address = data, address
        self.password = data / "password"
        self.password.write_text(PASSWORD + "\n")

    def type(self, *arguments: str) -> str:
        result = self.typed(*arguments)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.stdout.strip()

    def typed(self, *arguments: str) -> Result:
        return runner.invoke(app, [*arguments, "--data", str(self.data)])

    def person(self, name: str, *roles: str) -> None:
        options = [part for role in roles for part in ("--role", role)]
        self.type("people", "add", name, *options, "--password-file", str(self.password))

    def signed(self, name: str) -> list[str]:
        return ["--as", name, "--password-file", str(self.password)]

    def ask(self, key: str, text: str = "Hello") -> httpx.Response:
        body = {"model": "mock", "messages": [{"role": "user", "content": text}]}
        headers = {"authorization": f"Bearer {key}"}
        return httpx.post(f"{self.address}/v1/chat/completions", json=body, headers=headers, timeout=20)


@pytest.fixture(scope="module")
def operated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    data = tmp_path_factory.mktemp("gateway") / "data"
    with running(Upstream().app) as behind:
        code = "from safetylayers.cli import main; main()"
        command = [
            sys.executable,
            "-c",
            code,
            "serve",
            "--upstream",
            f"{behind}/v1",
            "--data",
            str(data),
            "--port",
            "0",
        ]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stderr is not None
                address = None
                while address is None:
                    line = process.stderr.readline()
                    assert line, "the gateway ended"
                    address = re.search(r"Serving on (\S+)/v1;", line)
                yield Operated(data, address[1])
            finally:
                process.terminate()
                process.wait(20)
                process.stderr.close()


@pytest.mark.parametrize("group", GROUPS)
def test_every_command_of_a_group_shows_an_example(group: str) -> None:
    for command in GROUPS[group].registered_commands:
        result = runner.invoke(app, [group, str(command.name), "--help"])
        assert result.exit_code == 0
        assert f"safetylayers {group} {command.name}" in result.output


def test_keys_are_made_shown_once_rotated_and_revoked(operated: Operated) -> None:
    operated.person("kim", "caller")
    token = operated.type("keys", "create", "notebook", "--owner", "kim", "--days", "3").splitlines()[-1]
    assert operated.ask(token).status_code == 200
    key = token.split("-")[1]
    assert key in operated.type("keys", "list")
    assert token not in operated.type("keys", "list")
    new = operated.type("keys", "rotate", key, "--grace-hours", "0").splitlines()[-1]
    time.sleep(5.2)  # a gateway believes a key that it looked up for some seconds
    assert operated.ask(token).status_code == 401
    assert operated.ask(new).status_code == 200
    operated.type("keys", "revoke", key)
    time.sleep(5.2)
    assert operated.ask(new).status_code == 401


def test_one_person_stops_and_two_resume(operated: Operated) -> None:
    key = (operated.data / "caller.key").read_text().strip()
    operated.person("olga", "operator")
    operated.person("omar", "operator")
    assert "stopped, 1 replicas" in operated.type("stop", "--reason", "a test")
    answer = operated.ask(key)
    assert answer.status_code == 503
    assert "a test" in answer.text
    assert operated.type("mode", "show").startswith("stopped")
    proposal = operated.type("mode", "propose", "run", "--reason", "mended", *operated.signed("olga")).splitlines()[-1]
    alone = operated.typed("mode", "approve", proposal, *operated.signed("olga"))
    assert isinstance(alone.exception, SafetyLayersError)
    assert "Nobody approves their own" in str(alone.exception)
    assert operated.type("mode", "approve", proposal, *operated.signed("omar")) == "run"
    for _ in range(100):
        if operated.ask(key).status_code == 200:
            break
        time.sleep(0.05)
    assert operated.ask(key).status_code == 200


def test_a_policy_is_tried_proposed_and_approved(operated: Operated, tmp_path: Path) -> None:
    operated.person("ada", "admin")
    operated.person("abe", "admin")
    file = tmp_path / "policy.yaml"
    shown = runner.invoke(app, ["policy", "show"]).stdout
    file.write_text(shown.replace("name: strict", "name: stricter").replace("action: redact", "action: block"))
    assert "stricter: valid" in runner.invoke(app, ["policy", "check", "--policy", str(file)]).stdout
    tried = runner.invoke(app, ["policy", "check", "x" * 200_000, "--policy", str(file)]).stdout
    assert tried.startswith("block: on account of size")
    proposal = operated.type(
        "policy", "propose", str(file), "--reason", "stricter", *operated.signed("ada")
    ).splitlines()[-1]
    assert "+  action: block" in operated.type("policy", "proposals").replace("    action", "  action")
    operated.type("policy", "approve", proposal, *operated.signed("abe"))
    assert "name: stricter" in operated.type("policy", "show", "--in-force")


def test_the_log_is_verified_proved_exported_and_erased(operated: Operated, tmp_path: Path) -> None:
    key = (operated.data / "caller.key").read_text().strip()
    assert operated.ask(key, "Remember the heron").status_code == 200
    witness = tmp_path / "witness.txt"
    shutil.copy(operated.data / "witness.txt", witness)
    assert operated.type("audit", "verify", "--kept", str(witness)).splitlines()[-1] == "verified"
    published = operated.type("audit", "key")
    proof = tmp_path / "entry.json"
    proof.write_text(operated.type("audit", "prove", "3"))
    checked = runner.invoke(app, ["audit", "check", str(proof), "--key", published])
    assert "entry 3 is in the log" in checked.stdout
    lines = [json.loads(line) for line in operated.type("audit", "export", "--texts").splitlines()]
    assert any("heron" in line.get("payload", "") for line in lines)
    subject = f"key-{key.split('-')[1]}"
    assert "texts erased in the log" in operated.type("audit", "erase", subject)
    assert "heron" not in operated.type("audit", "export", "--texts")
    assert operated.type("audit", "verify", "--kept", str(witness)).splitlines()[-1] == "verified"


def test_a_log_that_was_tampered_with_ends_with_exit_code_1(operated: Operated, tmp_path: Path) -> None:
    import sqlite3

    copy = tmp_path / "data"
    shutil.copytree(operated.data, copy)
    with sqlite3.connect(copy / "store.db") as connection:
        connection.execute('DELETE FROM log_entries WHERE "index" = 2')
    connection.close()
    result = runner.invoke(app, ["audit", "verify", "--data", str(copy)])
    assert result.exit_code == 1
    assert "first bad entry: 2" in result.stdout


def test_mistakes_are_told_in_words(operated: Operated, tmp_path: Path) -> None:
    for arguments, told in (
        (["audit", "verify", "--data", str(tmp_path / "nowhere")], "there is no gateway's folder here"),
        (["people", "list", "--store", "postgresql://me:secret@host/db"], "a password in an argument"),
        (["serve"], "Give a model or --upstream"),
        (["serve", "tiny", "--host", "0.0.0.0"], "--server-name"),
        (["policy", "check", "--policy", str(tmp_path / "none.yaml")], "cannot be read"),
    ):
        result = runner.invoke(app, arguments)
        assert isinstance(result.exception, SafetyLayersError), arguments
        assert told in str(result.exception)
        assert "secret" not in str(result.exception)


def test_a_password_in_an_address_is_refused_wherever_it_stands() -> None:
    from safetylayers.cli.serving import checked_store

    for address in ("postgresql://u:secret@h/db", "postgresql://u@h/db?password=secret"):
        with pytest.raises(UsageError, match="can be read by every user"):
            checked_store(address)
    assert checked_store("postgresql://u@h/db") == "postgresql://u@h/db"
