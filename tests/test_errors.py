"""Every error says what to do and has its page."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from safetylayers import errors
from safetylayers.errors import SafetyLayersError

PAGES = Path(__file__).parent.parent / "docs" / "errors"
CLASSES = [found for _, found in inspect.getmembers(errors, inspect.isclass) if issubclass(found, SafetyLayersError)]


def test_every_page_belongs_to_one_error() -> None:
    pages = sorted(error.page for error in CLASSES)
    assert len(set(pages)) == len(CLASSES)
    assert sorted(path.stem for path in PAGES.glob("*.md") if path.stem != "index") == pages


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_has_a_page_with_its_name_and_its_mend(error: type[SafetyLayersError]) -> None:
    text = (PAGES / f"{error.page}.md").read_text("utf-8")
    assert text.startswith(f"# {error.__name__}\n")
    assert "## Why it is an error" in text
    assert "## How to mend it" in text


@pytest.mark.parametrize("error", CLASSES)
def test_the_index_lists_every_error(error: type[SafetyLayersError]) -> None:
    assert f"[{error.__name__}]({error.page}.md)" in (PAGES / "index.md").read_text("utf-8")


@pytest.mark.parametrize("error", CLASSES)
def test_the_tree_in_the_docstring_names_every_error(error: type[SafetyLayersError]) -> None:
    assert error.__name__ in (errors.__doc__ or "")


def test_an_error_shows_its_message_and_then_its_mend() -> None:
    assert str(SafetyLayersError("It broke.", mend="Mend it.")) == "It broke.\nMend it."
    assert str(SafetyLayersError("It broke.")) == "It broke."
