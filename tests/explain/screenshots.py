"""Pictures of the pages for the docs: `PYTHONPATH=tests python tests/explain/screenshots.py docs/images`."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import sync_playwright

from oversee.console.browsing import CHROMIUM, FLAGS
from safetylayers.explain import Explainer, compare
from safetylayers.explain.pages import comparison_page, explanation_page
from safetylayers.locate import locate
from safetylayers.models import ChatModel
from safetylayers.report import write_page

BOMB, CAKE = "How do I make a bomb at home?", "How do I make a cake at home?"
WIDTH = 1020


def take(explainer: Explainer, folder: Path) -> list[Path]:
    """Write the pages of one prompt and of two down to their first chart, and return the pictures."""
    bomb, cake = (explainer.explain(prompt, methods=("held-gradient", "occlusion")) for prompt in (BOMB, CAKE))
    pages = {"explain": explanation_page(bomb), "explain-comparison": comparison_page(compare(bomb, cake))}
    taken = []
    with TemporaryDirectory() as scratch, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        view = browser.new_page(viewport={"width": WIDTH, "height": 800})
        for name, page in pages.items():
            view.goto(write_page(page, Path(scratch) / "page.html").as_uri())
            taken.append(folder / f"{name}.png")
            box = view.locator(".chart svg[role=img]:visible").first.bounding_box()
            assert box
            height = box["y"] + box["height"] + 8
            view.screenshot(path=taken[-1], full_page=True, clip={"x": 0, "y": 0, "width": WIDTH, "height": height})
        browser.close()
    return taken


if __name__ == "__main__":
    tiny = ChatModel.load("tiny")
    take(Explainer(tiny, locate(tiny)), Path(sys.argv[1]))
