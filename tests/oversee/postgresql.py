"""A PostgreSQL server for as long as it is needed, with nothing left behind."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

QUICK = {
    "listen_addresses": "",  # the socket is the only way in
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "60",
    "shared_buffers": "16MB",
}
"""Settings of a server whose data nobody needs after a crash."""


class MissingError(Exception):
    """PostgreSQL cannot be run here, and why."""


@dataclass(slots=True)
class Server:
    """A running PostgreSQL server."""

    folder: Path
    """Where its socket is."""
    names: Iterator[int] = field(default_factory=itertools.count)

    def connect(self) -> psycopg.Connection[Any]:
        """Open a connection to the server's own database."""
        return psycopg.connect(host=str(self.folder), user="postgres", dbname="postgres", autocommit=True)

    def new(self) -> str:
        """Make a user with an empty schema of its own, which takes a hundredth of a new database's time."""
        name = f"test_{next(self.names)}"
        with self.connect() as connection:
            connection.execute(f"CREATE ROLE {name} LOGIN")
            connection.execute(f"CREATE SCHEMA AUTHORIZATION {name}")
        return name

    def drop(self, name: str) -> None:
        """Remove a user and its schema, whoever is connected to it."""
        with self.connect() as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [name])
            connection.execute(f"DROP SCHEMA {name} CASCADE")
            connection.execute(f"DROP ROLE {name}")

    def url(self, name: str) -> str:
        """Return the address under which a user finds its schema."""
        return f"postgresql://{name}@/postgres?host={self.folder}"


def _program(name: str) -> str:
    found = [path for path in sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}")) if os.access(path, os.X_OK)]
    path = shutil.which(name) or (str(found[-1]) if found else None)
    if path is None:
        raise MissingError(f"PostgreSQL's {name} is not installed")
    return path


def _user() -> dict[str, Any]:
    """Who runs the server, for subprocess: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    try:
        owner = pwd.getpwnam("postgres")
    except KeyError:
        raise MissingError("PostgreSQL does not run as root, and there is no user postgres") from None
    return {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}


def _wait_for(server: Server, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        try:
            server.connect().close()
        except psycopg.OperationalError:
            assert process.poll() is None, "PostgreSQL ended at its start"
            time.sleep(0.05)
        else:
            return
    raise TimeoutError("PostgreSQL does not answer")


@contextmanager
def postgresql() -> Iterator[Server]:
    """Within the block, a server runs. Raises MissingError."""
    initdb, postgres, user = _program("initdb"), _program("postgres"), _user()
    # A socket's path may have 107 bytes at most, and pytest's own folders are closed to other users.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    if user:
        os.chown(folder, user["user"], user["group"])
    data, server = folder / "data", Server(folder)
    make = [initdb, "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]
    start = [postgres, "-D", str(data), "-k", str(folder)]
    start += [part for name, value in QUICK.items() for part in ("-c", f"{name}={value}")]
    try:
        subprocess.run(make, check=True, capture_output=True, cwd=folder, **user)
        with subprocess.Popen(
            start, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, **user
        ) as process:
            try:
                _wait_for(server, process)
                yield server
            finally:
                process.send_signal(signal.SIGQUIT)  # at once: nothing has to be kept
    finally:
        shutil.rmtree(folder, ignore_errors=True)
