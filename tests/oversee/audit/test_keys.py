"""Keys are made once, for their owner alone, and never made again in place of lost ones."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from safetylayers.errors import AuditError
from safetylayers.oversee.audit import LogKeys

NAMES = ("signing.key", "vault.key")


def test_keys_are_made_once_for_their_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "keys"
    first, again = LogKeys.open(folder), LogKeys.open(folder)
    assert first.verifier("log") == again.verifier("log")
    assert again.vault.open(first.vault.seal(b"text", context=b""), context=b"") == b"text"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == dict.fromkeys(NAMES, 0o600)


def test_replicas_that_start_at_once_share_the_first_ones_keys(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(LogKeys.open, [tmp_path / "keys"] * 32))
    assert len({keys.verifier("log") for keys in made}) == 1
    sealed = made[0].vault.seal(b"text", context=b"")
    assert {keys.vault.open(sealed, context=b"") for keys in made} == {b"text"}
    assert sorted(path.name for path in (tmp_path / "keys").iterdir()) == list(NAMES)


def test_a_lost_vault_key_is_not_made_again(tmp_path: Path) -> None:
    LogKeys.open(tmp_path)
    (tmp_path / "vault.key").unlink()
    with pytest.raises(AuditError, match=r"vault\.key"):
        LogKeys.open(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_a_key_of_the_wrong_size_is_refused(tmp_path: Path, name: str) -> None:
    LogKeys.open(tmp_path)
    (tmp_path / name).write_bytes(bytes(31))
    with pytest.raises(AuditError, match="31 bytes and not 32"):
        LogKeys.open(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, name: str) -> None:
    LogKeys.open(tmp_path)
    (tmp_path / name).chmod(0o640)
    with pytest.raises(AuditError, match="may be read by other users") as caught:
        LogKeys.open(tmp_path)
    assert caught.value.mend == f"chmod 600 {tmp_path / name}"


def test_a_folder_that_others_may_change_is_refused(tmp_path: Path) -> None:
    LogKeys.open(tmp_path)
    tmp_path.chmod(0o770)
    with pytest.raises(AuditError, match="may be changed"):
        LogKeys.open(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_key_is_named(tmp_path: Path) -> None:
    LogKeys.open(tmp_path)
    (tmp_path / "signing.key").chmod(0o000)
    with pytest.raises(AuditError, match="cannot be read"):
        LogKeys.open(tmp_path)


def test_a_file_in_the_folders_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("")
    with pytest.raises(AuditError, match="cannot be read or made"):
        LogKeys.open(tmp_path / "keys")


def test_keys_do_not_show_themselves(tmp_path: Path) -> None:
    keys = LogKeys.open(tmp_path)
    assert (tmp_path / "vault.key").read_bytes().hex() not in repr(keys) + repr(keys.vault)
