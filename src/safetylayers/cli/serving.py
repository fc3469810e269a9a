"""What the commands around a gateway share."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safetylayers.errors import AccessError, UsageError

if TYPE_CHECKING:
    from safetylayers.oversee.audit.checkpoint import Verifier
    from safetylayers.oversee.audit.vault import Vault
    from safetylayers.oversee.gateway.site import Site
    from safetylayers.oversee.identity.principal import Principal
    from safetylayers.oversee.store.database import Database

DataOption = Annotated[Path, typer.Option("--data", help="The gateway's folder: database, keys, witness file.")]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="Another database than the folder's, e.g. postgresql://gateway@db/safety; its password comes from "
        "PGPASSFILE or ~/.pgpass.",
    ),
]
AsOption = Annotated[str, typer.Option("--as", help="Your name; your password is asked for.")]
PasswordOption = Annotated[
    Path | None, typer.Option("--password-file", help="File with your password, in place of being asked.")
]
DATA = Path("safetylayers-data")


def checked_store(store: str | None) -> str | None:
    """Return a database's address. Raises UsageError where a password is in it: other users can read arguments."""
    if store is None:
        return None
    need_extra()
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        address = make_url(store)
    except ArgumentError as error:
        raise UsageError("--store: not an address.", mend="Write postgresql://USER@HOST/NAME.") from error
    if address.password or "password" in address.query:
        raise UsageError(
            "--store: a password in an argument can be read by every user of this machine.",
            mend="Leave it out, and put it into ~/.pgpass or the file that PGPASSFILE names.",
        )
    return store


def need_extra() -> None:
    """Raise UsageError unless what serving needs is installed."""
    try:
        import cryptography
        import fastapi
        import sqlalchemy
        import uvicorn
    except ImportError as error:
        raise UsageError(
            f"Serving needs more than is installed here ({error.name} is missing).",
            mend="Install it: pip install 'safetylayers[serve]'",
        ) from error
    del cryptography, fastapi, sqlalchemy, uvicorn


@contextmanager
def open_site(data: Path, store: str | None) -> Iterator[Site]:
    """Within the block, a deployment that is there already is open."""
    need_extra()
    from safetylayers.oversee.gateway.site import Site

    site = Site.existing(data, store=checked_store(store))
    try:
        yield site
    finally:
        site.close()


@contextmanager
def open_log(
    data: Path, store: str | None, key: str | None
) -> Iterator[tuple[Database, Verifier, Vault | None, Path | None]]:
    """Within the block, a log is open to be verified, for which its public key is enough.

    Returns:
        The database, the log's public key, and, where the log is this folder's, its vault and its witness file.

    Raises:
        UsageError: neither the folder's keys nor a public key are given.
    """
    need_extra()
    from safetylayers.oversee.audit.checkpoint import Verifier
    from safetylayers.oversee.audit.keys import LogKeys
    from safetylayers.oversee.gateway.site import existing_database, log_name

    database = existing_database(data, store=checked_store(store))
    try:
        keys = LogKeys.read(data / "keys") if (data / "keys").exists() else None
        own = keys.verifier(log_name(keys)) if keys else None
        verifier = Verifier.parse(key) if key else own
        if verifier is None:
            raise UsageError(
                f"{data}: without its keys, nobody can tell whose log this is.",
                mend="Give the log's verifier key as it was published: --key 'NAME+ID+KEY'.",
            )
        yield (
            database,
            verifier,
            keys.vault if keys and own == verifier else None,
            data / "witness.txt" if own in (None, verifier) else None,
        )
    finally:
        database.close()


def logged_in(site: Site, name: str, password_file: Path | None) -> Principal:
    """Return who is at the keyboard. Raises AccessError."""
    from safetylayers.oversee.identity.throttle import COMMAND_LINE

    password = read_secret(password_file, prompt=f"Password of {name}: ")
    session = site.sessions.log_in(name, password, address=COMMAND_LINE)
    try:
        return site.sessions.authenticate(session.token)
    finally:
        site.sessions.log_out(session.token)


def read_secret(path: Path | None, *, prompt: str, twice: bool = False) -> str:
    """Read a secret from a file's first line, or ask for it.

    Raises:
        UsageError: the file cannot be read, or there is nobody to ask.
        AccessError: it was typed differently the second time.
    """
    if path is not None:
        try:
            return path.read_text("utf-8").splitlines()[0]
        except (OSError, UnicodeDecodeError, IndexError) as error:
            raise UsageError(
                f"{path}: no secret can be read from it.", mend="Give a file with it in one line."
            ) from error
    if not sys.stdin.isatty():
        raise UsageError("There is nobody to ask for the password.", mend="Give it in a file: --password-file FILE.")
    secret = getpass.getpass(prompt)
    if twice and getpass.getpass("Once more: ") != secret:
        raise AccessError("The two are not the same.", mend="Try again.")
    return secret


def signed_reason(reason: str) -> str:
    """Return a reason and who gives it, which stays where the reason is too long to be kept whole."""
    return f"{reason[:1900]} (by {local_user()})"


def local_user() -> str:
    """Return who runs the command, as the machine names them."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
