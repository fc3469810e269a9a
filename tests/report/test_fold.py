"""A fold hides parts until they are asked for."""

from __future__ import annotations

import pytest

from report.sample import full_page, read
from report.test_page import HOSTILE
from safetylayers.errors import UsageError
from safetylayers.report import Fold, Page, Paragraph, Section, render_page


def html_of(*folds: Fold) -> str:
    return render_page(Page("T", sections=[Section("S", folds)]))


@pytest.mark.parametrize("opened", [True, False])
def test_a_fold_is_open_where_it_says_so(opened: bool) -> None:
    [fold] = read(html_of(Fold("more `x`", [Paragraph("inside")], opened))).with_class("fold")
    assert fold.name == "details"
    assert ("open" in fold.attributes) == opened
    assert fold.text.split() == ["more", "x", "inside"]


def test_a_fold_holds_every_part_and_folds_themselves() -> None:
    parts = full_page().sections[0].parts
    whole = read(html_of(Fold("all", [*parts, Fold("within", parts)])))
    alone = read(render_page(Page("T", sections=[Section("S", parts)])))
    assert len(whole.with_class("chart")) == 2 * len(alone.with_class("chart"))
    ids = [element.attributes["id"] for element in whole.elements if "id" in element.attributes]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_summary_is_text(text: str) -> None:
    def outline(summary: str) -> list[str]:
        page = html_of(Fold(summary, [Paragraph("inside")]))
        return [element.name for element in read(page).elements if element.name != "code"]

    assert outline(text) == outline("plain")


def test_a_fold_needs_a_summary_and_something_inside() -> None:
    with pytest.raises(UsageError, match="needs a summary"):
        Fold(" ", [Paragraph("x")])
    with pytest.raises(UsageError, match="nothing in the fold 'x'"):
        Fold("x", [])
    with pytest.raises(UsageError, match="A str is no part"):
        html_of(Fold("x", ["text"]))  # type: ignore[list-item]  # a wrong part is the test
