"""What goes wrong is said on a page, and gives nothing away."""

from __future__ import annotations

import pytest

from oversee.console.conftest import Console
from safetylayers.errors import StoreError


def test_a_store_that_does_not_answer_is_said_in_words(gateway: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = gateway.logged_in("ada", "operator")

    def gone(*_: object, **__: object) -> None:
        raise StoreError("The database does not do what it is asked.", mend="See that it runs.")

    monkeypatch.setattr(gateway.house.site.people, "everybody", gone)
    page = ada.get("/console/")
    assert page.status_code == 503
    assert "See that it runs." in page.text
    monkeypatch.setattr(gateway.house.site.sessions, "authenticate", gone)
    assert ada.get("/console/").status_code == 503


def test_what_nobody_foresaw_is_logged_and_not_shown(
    gateway: Console, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ada = gateway.logged_in("ada", "operator")

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(gateway.house.overrides, "active", broken)
    page = ada.get("/console/overrides")
    assert page.status_code == 500
    assert "The console failed." in page.text
    assert "a secret" not in page.text
    assert "a secret" in caplog.text


def test_a_missing_map_and_a_missing_page_are_said(gateway: Console) -> None:
    audrey = gateway.logged_in("audrey", "auditor")
    assert "started without a map" in audrey.get("/console/map").text
    missing = audrey.get("/console/nowhere/at/all")
    assert missing.status_code == 404
    assert "There is no such page here." in missing.text
