"""Shaded words, heat maps and folds in a real browser: by pointer, by keys, and on a narrow screen."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright
from playwright.sync_api import Page as Opened

from oversee.console.browsing import CHROMIUM, FLAGS
from safetylayers.report import (
    Axis,
    Band,
    Columns,
    Fold,
    HeatMap,
    Page,
    Paragraph,
    Part,
    Section,
    ShadedText,
    ShadedWord,
    write_page,
)

HOSTILE = '<script>document.title = "taken"</script><img src="http://192.0.2.1/x" onerror="alert(1)">\' " \u202e \x00'
SHOWN = HOSTILE.replace("\u202e", "⟨U+202E⟩").replace("\x00", "⟨U+0000⟩")
LONG = "Donaudampfschifffahrtsgesellschaftskapitänswitwenversicherung"
SIZES = {"desk": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}


def text(*words: str, joined: bool = False) -> ShadedText:
    scored = [ShadedWord(word, math.sin(index + 1), f"note on {word}") for index, word in enumerate(words)]
    return ShadedText("Which words", [ShadedWord("<s>", None), *scored], "for", "against", "log-odds", joined=joined)


def heat_map(columns: int, label: str = "word") -> HeatMap:
    values = [[math.sin(row + column / 5) for column in range(columns)] for row in range(6)]
    names = [f"{label} {column}" for column in range(columns)]
    return HeatMap(
        "By layer", Axis("Pull", "log-odds"), list("012345"), names, values, band=Band(2, 3, "safety layers")
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


Visit = Callable[..., Opened]


@pytest.fixture
def visit(browser: Browser, tmp_path: Path) -> Iterator[Visit]:
    """Open a page of these parts; the browser has nothing to complain of, and asks for nothing but the page."""
    troubles: list[str] = []
    contexts: list[BrowserContext] = []

    def open_(*parts: Part, **options: object) -> Opened:
        path = write_page(Page("T", sections=[Section("S", parts)]), tmp_path / "page.html")
        contexts.append(browser.new_context(**options))  # type: ignore[arg-type]  # options differ
        page = contexts[-1].new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda said: troubles.append(said.text))
        page.on("request", lambda sent: None if sent.url == path.as_uri() else troubles.append(sent.url))
        page.goto(path.as_uri())
        return page

    yield open_
    for context in contexts:
        context.close()
    assert troubles == []


def test_the_tab_key_reaches_each_word_and_shows_its_number(visit: Visit) -> None:
    page = visit(text("bomb", "please"))
    tips = page.locator(".tip")
    expect(tips.first).to_be_hidden()
    page.keyboard.press("Tab")
    expect(page.locator(".word").first).to_be_focused()
    expect(tips.first).to_be_visible()
    expect(tips.first).to_have_text("+0.841\N{NO-BREAK SPACE}log-odds bomb note on bomb")
    page.keyboard.press("Tab")
    expect(tips.first).to_be_hidden()
    expect(tips.nth(1)).to_be_visible()


def test_the_pointer_shows_the_number_even_where_words_are_too_many_for_the_tab_key(visit: Visit) -> None:
    page = visit(text(*["word"] * 201))
    page.keyboard.press("Tab")
    expect(page.locator(".word:focus")).to_have_count(0)
    page.locator(".word").nth(150).hover()
    expect(page.locator(".tip").nth(150)).to_be_visible()


def test_a_fold_is_opened_and_closed_by_the_enter_key(visit: Visit) -> None:
    page = visit(Fold("More", [Paragraph("What was hidden.")]))
    hidden = page.get_by_text("What was hidden.")
    expect(hidden).to_be_hidden()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(hidden).to_be_visible()
    page.keyboard.press("Enter")
    expect(hidden).to_be_hidden()


def test_the_numbers_are_reached_without_a_pointer(visit: Visit) -> None:
    page = visit(heat_map(3))
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("row").nth(1)).to_contain_text("0.000")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_no_page_scrolls_sideways_not_even_with_all_open_and_a_tip_shown(visit: Visit, size: str, scheme: str) -> None:
    prompt = text("short", LONG, *["words"] * 6, LONG * 2)
    parts = [
        prompt,
        text("to", "ken", "\n", LONG, joined=True),
        heat_map(8),
        heat_map(40),
        heat_map(128, LONG),
        Columns([heat_map(3), heat_map(30)]),
        Fold(LONG * 3, [prompt, heat_map(60), Columns([text("short", LONG), heat_map(2)])]),
    ]
    page = visit(*parts, viewport=SIZES[size], color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(found => { found.open = true })")
    for word in page.locator(".word").all():
        word.focus()
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"]
        tip = word.locator(".tip").bounding_box()
        assert tip is not None
        assert tip["x"] >= 0
        assert tip["x"] + tip["width"] <= SIZES[size]["width"]


@pytest.mark.parametrize("size", SIZES)
def test_the_layers_stay_in_sight_while_a_map_is_scrolled(visit: Visit, size: str) -> None:
    page = visit(heat_map(128), viewport=SIZES[size])
    region, labels = page.get_by_role("region", name="By layer").first, page.locator(".fixed")
    before = labels.bounding_box()
    region.focus()
    page.keyboard.press("End")
    region.evaluate("found => { found.scrollLeft = found.scrollWidth }")
    assert region.evaluate("found => found.scrollLeft") > 900
    assert labels.bounding_box() == before


def test_one_drawing_of_a_map_is_shown_at_each_width(visit: Visit) -> None:
    for size in SIZES.values():
        page = visit(heat_map(8), heat_map(40), heat_map(128), viewport=size)
        expect(page.locator("[role=img]:visible")).to_have_count(3)


def test_hostile_text_is_shown_as_text_everywhere(visit: Visit) -> None:
    chart = HeatMap(HOSTILE, Axis(HOSTILE), [HOSTILE], [HOSTILE], [[1.0]], band=Band(0, 0, HOSTILE), note=HOSTILE)
    words = [ShadedWord(HOSTILE, 1.0, HOSTILE), ShadedWord(HOSTILE, None)]
    page = visit(ShadedText(HOSTILE, words, HOSTILE, HOSTILE, HOSTILE, HOSTILE), chart, Fold(HOSTILE, [Paragraph("x")]))
    assert page.title() == "T"
    assert page.locator("script, img").count() == 0
    expect(page.locator(".plain")).to_have_text(SHOWN)
    expect(page.locator(".fold > summary")).to_have_text(SHOWN)
    page.locator(".word").focus()
    expect(page.locator(".tip")).to_contain_text(f"{SHOWN} {SHOWN}")
    expect(page.locator(".cells title").first).to_contain_text("+1 at <script>")
