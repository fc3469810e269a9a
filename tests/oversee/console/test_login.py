"""Logging in and out: cookies, tokens, headers."""

from __future__ import annotations

import httpx
import pytest

from oversee.console.conftest import Console
from safetylayers.oversee.console.serving import HEADERS


def test_a_right_password_opens_the_console_and_a_wrong_one_does_not(gateway: Console) -> None:
    gateway.person("ada", "operator")
    visitor = gateway.visitor()
    wrong = visitor.log_in("ada", "not the right password")
    assert wrong.status_code == 403
    assert "Name or password is wrong." in wrong.text
    assert visitor.get("/console/").headers["location"] == "/console/login?next=/console/"
    right = visitor.log_in("ada")
    assert (right.status_code, right.headers["location"]) == (303, "/console/")
    assert "Running" in visitor.get("/console/").text
