"""What the documentation shows works."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

from safetylayers.oversee.guards.base import Passage
from safetylayers.oversee.policy.policy import parse_policy

PAGE = Path(__file__).parents[3] / "docs" / "concepts" / "guards.md"


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert found
    return found[1]


def test_the_policy_in_the_documentation_is_valid() -> None:
    assert parse_policy(block("yaml")).name == "clinic"


def test_the_guard_in_the_documentation_holds_back_and_finds() -> None:
    names: dict[str, Any] = {}
    exec(block("python"), names)
    guard = names["Shouting"]({})
    assert asyncio.run(guard.check(Passage("output", "LOUD", final=False))).checked == 0
    assert asyncio.run(guard.check(Passage("output", "LOUD"))).findings[0].kind == "shouting"
    assert not asyncio.run(guard.check(Passage("output", "quiet"))).findings
