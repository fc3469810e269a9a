"""Pages of whole prompt sets and of replies."""

from __future__ import annotations

import pytest
from markupsafe import escape

from safetylayers.explain import Explainer
from safetylayers.explain.overview import Overview, overview
from safetylayers.explain.pages.overview import SHOWN, overview_page
from safetylayers.explain.pages.trace import trace_section
from safetylayers.explain.trace import trace_reply
from safetylayers.prompts import Prompt, PromptSet, builtin
from safetylayers.report import Page, render_page

HOSTILE = "<script>alert(1)</script> \N{RIGHT-TO-LEFT OVERRIDE}bomb"


@pytest.fixture(scope="module")
def found(explainer: Explainer) -> Overview:
    prompts = (*builtin("malicious", "calibration").take(SHOWN), Prompt("hostile", HOSTILE, category="<b>"))
    return overview(explainer, PromptSet("mixed", prompts))


def test_the_page_has_words_categories_layers_and_the_surest_refusals(found: Overview) -> None:
    html = render_page(overview_page(found))
    assert found.sentence.split(" of ")[0] in html
    for word in found.words:
        assert word.word in html
    assert all(escape(each.prompt) in html for each in found.prompts[:5])
    assert f"The first {SHOWN} of {SHOWN + 1}" in html


def test_hostile_prompts_are_text(found: Overview, explainer: Explainer) -> None:
    html = render_page(overview_page(found))
    assert "<script>" not in html
    assert "<b>" not in html
    trace = trace_reply(explainer, HOSTILE, f"Sure: {HOSTILE}")
    html = render_page(Page(title="A trace", sections=[trace_section(trace)]))
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in html
