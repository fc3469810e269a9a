"""Several processes write one log without a gap, and a killed one loses nothing that it acknowledged."""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import pytest

from safetylayers.oversee.audit import AuditLog, Entry, LogKeys, read_witness, sequencer, verify
from safetylayers.oversee.store.database import Database

WRITER = """
import asyncio, sys
from pathlib import Path
from safetylayers.oversee.audit import AuditLog, Entry, LogKeys
from safetylayers.oversee.store.database import Database

url, folder, name, count = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
log = AuditLog(Database(url), LogKeys.open(folder / "keys"), origin="example.org/log", witness=folder / "witness")

async def write(task):
    for n in range(count):
        entry = Entry(kind="k", actor=name, facts={"task": task, "n": n}, payload={"text": name}, subject=name)
        index = await log.append(entry)
        print(index, name, task, n, flush=True)

async def main():
    await asyncio.gather(*map(write, range(8)))

asyncio.run(main())
log.close()
"""


def start(database: Database, folder: Path, name: str, count: int) -> subprocess.Popen[str]:
    """Start a process that appends with eight tasks and prints what is acknowledged."""
    url = database.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", WRITER, url, str(folder), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def acknowledged(text: str) -> dict[int, tuple[str, int, int]]:
    """Index -> who wrote it, in which task, as its how-manieth; a line that was cut short does not count."""
    lines = [line.split() for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return {int(index): (name, int(task), int(n)) for index, name, task, n in lines}


def written(log: AuditLog) -> dict[int, tuple[str, object, object]]:
    """The same, as the log has it."""
    return {kept.index: (kept.actor, kept.facts["task"], kept.facts["n"]) for kept in log.read()}


def test_two_processes_write_one_log_without_a_gap(
    database: Database, log: AuditLog, keys: LogKeys, tmp_path: Path, witness: Path
) -> None:
    with start(database, tmp_path, "left", 40) as left, start(database, tmp_path, "right", 40) as right:
        told = acknowledged(left.communicate(timeout=60)[0]) | acknowledged(right.communicate(timeout=60)[0])
    assert (left.returncode, right.returncode) == (0, 0)
    assert sorted(told) == list(range(640))
    assert written(log) == told
    assert verify(database, log.verifier, vault=keys.vault, kept=read_witness(witness)).ok


def test_a_killed_writer_loses_nothing_that_it_acknowledged(
    database: Database, log: AuditLog, keys: LogKeys, tmp_path: Path, witness: Path
) -> None:
    with start(database, tmp_path, "doomed", 1_000_000) as writer:
        assert writer.stdout is not None
        text = "".join(writer.stdout.readline() for _ in range(200))
        writer.send_signal(signal.SIGKILL)
        text += writer.stdout.read()
    told, found = acknowledged(text), written(log)
    assert len(told) >= 200
    assert told.items() <= found.items()
    with database.write() as connection:
        (index,) = log.append_in(connection, [Entry(kind="k", actor="next", facts={"task": 0, "n": 0})])
    assert index == len(found)
    assert verify(database, log.verifier, vault=keys.vault, kept=read_witness(witness)).ok


@pytest.mark.parametrize(("ahead_s", "follows"), [(30, True), (3600, False)])
def test_times_never_go_back_between_replicas_unless_a_clock_is_wrong(
    log: AuditLog, keys: LogKeys, database: Database, monkeypatch: pytest.MonkeyPatch, ahead_s: int, follows: bool
) -> None:
    class Ahead(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + timedelta(seconds=ahead_s)

    other = AuditLog(database, keys, origin=log.origin)
    with monkeypatch.context() as patch:
        patch.setattr(sequencer, "datetime", Ahead)
        append(log)
    for writer in (other, other, log):
        append(writer)
    other.close()
    first, *rest = (kept.time for kept in log.read())
    assert rest == sorted(rest)
    assert all((time >= first) is follows for time in rest)
    assert verify(database, log.verifier).ok


def append(log: AuditLog) -> None:
    with log.database.write() as connection:
        log.append_in(connection, [Entry(kind="k", actor="a")])


def test_two_logs_in_one_process_take_turns(log: AuditLog, keys: LogKeys, database: Database) -> None:
    other = AuditLog(database, keys, origin=log.origin)
    for turn in range(3):
        for writer in (log, other):
            with database.write() as connection:
                writer.append_in(connection, [Entry(kind="k", actor="a", facts={"turn": turn})])
    other.close()
    assert verify(database, log.verifier).size == 6
