from __future__ import annotations

import asyncio
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from safetylayers.errors import PolicyError
from safetylayers.oversee.guards import Passage, close_guard, known_kinds, make_guard, open_guard

BUILT_IN = ("classifier", "generative", "moderation", "patterns", "personal", "repetition", "secrets", "size")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package that brings guards."""
    (tmp_path / "shouting.py").write_text(
        textwrap.dedent("""
            from safetylayers.errors import GuardError
            from safetylayers.oversee.guards import Finding, Verdict

            class Shouting:
                name = "of its own"
                kinds = ("shout",)
                opened = closed = False

                def __init__(self, settings):
                    if "least" not in settings:
                        raise GuardError("It needs least.", mend="Say how many.")
                    self.least = settings["least"] + 0

                async def check(self, passage):
                    loud = sum(map(str.isupper, passage.text)) >= self.least
                    return Verdict(len(passage.text), (Finding("shout"),) if loud else ())

                async def open(self):
                    Shouting.opened = True

                async def aclose(self):
                    Shouting.closed = True

            def nothing(settings):
                return object()
        """)
    )
    info = tmp_path / "shouting-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shouting\nVersion: 1.0\n")
    points = (
        "shout = shouting:Shouting\nnothing = shouting:nothing\ngone = shouting:Gone\npersonal = shouting:nothing\n"
    )
    (info / "entry_points.txt").write_text(f"[safetylayers.guards]\n{points}")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "shouting", raising=False)
    return tmp_path


def test_all_kinds_are_known() -> None:
    assert set(BUILT_IN) <= set(known_kinds())


@pytest.mark.parametrize(
    ("kind", "settings", "kinds"),
    [
        ("patterns", {"patterns": {"project": "falcon"}}, ("project",)),
        ("personal", {}, ("email", "iban", "card", "ssn", "phone", "ip")),
        ("secrets", {}, ("private-key", "api-key")),
        ("size", {"messages": 3}, ("too-long", "too-many-messages")),
        ("repetition", {}, ("repetition",)),
        ("moderation", {"url": "http://localhost/v1", "model": "m", "thresholds": {"hate": 0.5}}, ("hate", "flagged")),
        ("classifier", {"source": "somewhere", "labels": {"toxic": "harm"}}, ("harm",)),
        ("generative", {"server": {"url": "http://localhost/v1", "model": "m"}}, ("unsafe",)),
    ],
)
def test_each_kind_is_made_from_settings(kind: str, settings: dict[str, Any], kinds: tuple[str, ...]) -> None:
    guard = make_guard("mine", kind, settings)
    assert (guard.name, guard.kinds) == ("mine", kinds)
    asyncio.run(close_guard(guard))


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("persona", {}, "Guard mine: there is no kind 'persona'"),
        ("personal", {"regions": "US"}, "Guard mine: regions: Extra inputs"),
        ("personal", {"region": "Texas"}, "Guard mine: region: no region"),
        ("personal", {"kinds": ["emails"]}, r"Guard mine: kinds\.0: "),
        ("moderation", {"model": "m"}, "Guard mine: url: Field required"),
        ("patterns", {"patterns": {"a": {"regex": "("}}}, r"Guard mine: patterns\.a\.regex: no regular expression"),
        ("generative", {}, "Guard mine: settings: give either server or local"),
        ("generative", {"server": {"url": "x", "model": "m"}}, r"Guard mine: server\.url: no address"),
    ],
)
def test_a_wrong_setting_is_named(kind: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(PolicyError, match=message) as caught:
        make_guard("mine", kind, settings)
    assert caught.value.mend


def test_what_was_given_wrongly_is_not_shown() -> None:
    with pytest.raises(PolicyError) as caught:
        make_guard("mine", "moderation", {"url": "http://me:hunter2@localhost/v1", "model": "m"})
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_package_brings_a_guard(package: Path) -> None:
    assert "shout" in known_kinds()
    guard = make_guard("mine", "shout", {"least": 3})
    assert (guard.name, guard.kinds) == ("mine", ("shout",))

    async def scenario() -> list[int]:
        await open_guard(guard)
        found = [len((await guard.check(Passage("input", text))).findings) for text in ("quiet", "LOUD")]
        await close_guard(guard)
        return found

    assert asyncio.run(scenario()) == [0, 1]
    shouting = sys.modules["shouting"].Shouting
    assert shouting.opened
    assert shouting.closed


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("shout", {}, "Guard mine: It needs least"),
        ("shout", {"least": "3"}, "Guard mine: .* cannot make it: TypeError"),
        ("gone", {}, "Guard mine: .* cannot make it: AttributeError"),
        ("nothing", {}, "Guard mine: .* is no guard"),
    ],
)
def test_a_package_that_brings_no_guard_is_named(
    package: Path, kind: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(PolicyError, match=message):
        make_guard("mine", kind, settings)


def test_a_package_cannot_replace_what_is_built_in(package: Path) -> None:
    assert "email" in make_guard("mine", "personal", {}).kinds
