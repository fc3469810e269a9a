"""A deployment's folder."""

from __future__ import annotations

from pathlib import Path

from safetylayers.oversee.gateway.site import Site


def test_where_there_are_keys_already_nothing_is_written(tmp_path: Path) -> None:
    site = Site.open(tmp_path)
    assert site.first_key() == tmp_path / "caller.key"
    (tmp_path / ".first-key.lock").unlink(missing_ok=True)
    assert site.first_key() is None
    assert not (tmp_path / ".first-key.lock").exists()
    site.close()
