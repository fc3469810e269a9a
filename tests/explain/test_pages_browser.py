"""The pages of explanations in a real browser: by keys, on narrow screens, and as pictures for the docs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright
from playwright.sync_api import Page as Opened

from explain.screenshots import BOMB, CAKE, take
from oversee.console.browsing import CHROMIUM, FLAGS
from safetylayers.explain import Explainer, compare
from safetylayers.explain.attention import last_row_attention
from safetylayers.explain.causes import find_causes
from safetylayers.explain.pages import comparison_page, explanation_page
from safetylayers.report import write_page

HOSTILE = (
    '<script>document.title = "taken"</script> <img src="http://192.0.2.1/x" onerror="alert(1)"> '
    "\N{RIGHT-TO-LEFT OVERRIDE}bmob \x00 `rm` " + "Donaudampfschifffahrtsgesellschaft" * 3
)
SIZES = {"desk": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
PAGES = ("explanation", "comparison")


@pytest.fixture(scope="module")
def written(explainer: Explainer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The page of one prompt and that of two, with all that there is; one of the prompts is hostile."""
    prompts = (BOMB, f"{CAKE} {HOSTILE}")
    bomb, cake = (explainer.explain(prompt, methods=("held-gradient", "occlusion")) for prompt in prompts)
    read = [last_row_attention(explainer.model, explainer.read(prompt)) for prompt in prompts]
    causes = find_causes(explainer, BOMB, CAKE)
    pages = {
        "explanation": explanation_page(bomb, read[0], causes),
        "comparison": comparison_page(compare(bomb, cake), causes, read, missing={"all else": HOSTILE}),
    }
    folder = tmp_path_factory.mktemp("pages")
    return {name: write_page(page, folder / f"{name}.html") for name, page in pages.items()}


@pytest.fixture(scope="module")
def pictures(explainer: Explainer, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Taken before `browser`, which leaves no room in its thread for another one."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    return take(explainer, tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def browser(pictures: list[Path]) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


Visit = Callable[..., Opened]


@pytest.fixture
def visit(browser: Browser, written: dict[str, Path]) -> Iterator[Visit]:
    """Open one of the pages; the browser has nothing to complain of, and asks for nothing but the page."""
    troubles: list[str] = []
    contexts: list[BrowserContext] = []

    def open_(name: str, size: str) -> Opened:
        address = written[name].as_uri()
        contexts.append(browser.new_context(viewport=SIZES[size]))  # type: ignore[arg-type]  # its own kind of dict
        page = contexts[-1].new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda said: troubles.append(said.text))
        page.on("dialog", lambda dialog: troubles.append(dialog.message))
        page.on("request", lambda sent: None if sent.url == address else troubles.append(sent.url))
        page.goto(address)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert troubles == []


def width(page: Opened) -> int:
    found: int = page.evaluate("document.documentElement.scrollWidth")
    return found


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PAGES)
def test_nothing_scrolls_sideways_not_even_with_all_open(visit: Visit, name: str, size: str) -> None:
    page = visit(name, size)
    assert width(page) <= SIZES[size]["width"]
    page.evaluate("document.querySelectorAll('details').forEach(found => { found.open = true })")
    assert width(page) <= SIZES[size]["width"]
    assert page.title() != "taken"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PAGES)
def test_the_tab_key_reaches_every_word_and_shows_its_number(visit: Visit, name: str, size: str) -> None:
    page = visit(name, size)
    words = page.locator("section:first-of-type .word:visible")
    page.locator(".contents a").last.focus()
    for number in range(words.count()):
        while not words.nth(number).evaluate("found => found === document.activeElement"):
            page.keyboard.press("Tab")
            # Past the last word there is nothing to look for.
            assert page.evaluate("document.activeElement.closest('#s2')") is None
        tip = words.nth(number).locator(".tip")
        expect(tip).to_be_visible()
        expect(tip).to_contain_text("nats")
        assert width(page) <= SIZES[size]["width"]


@pytest.mark.parametrize("name", PAGES)
def test_every_fold_opens_by_keys(visit: Visit, name: str) -> None:
    page = visit(name, "desk")
    for fold in page.locator(".fold").all():
        fold.locator("> summary").focus()
        page.keyboard.press("Enter")
        expect(fold.locator("> .folded")).to_be_visible()


def test_the_pictures_of_the_docs_are_small(pictures: list[Path]) -> None:
    assert [picture.name for picture in pictures] == ["explain.png", "explain-comparison.png"]
    assert all(20_000 < picture.stat().st_size < 250_000 for picture in pictures)
