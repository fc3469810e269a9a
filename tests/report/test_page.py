"""A page is whole, alone, safe, small, and readable without its colours."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from html import escape
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from report.sample import full_page, read
from safetylayers.errors import OutputError, UsageError
from safetylayers.report import MAX_BYTES, Page, Paragraph, Replies, Reply, Section, Table, render_page, write_page
from safetylayers.report.text import visible

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg onload=alert(1)>",
    "</title></style></svg><script>1</script>",
    "]]><!-- --!> <![CDATA[",
    "{{ 7*7 }}{% raw %}",
    "&lt;b&gt; &amp; &#60;",
    "`<b>code</b>`",
    "javascript:alert(1)",
    "https://example.invalid/x",
    "\u202egnp.exe \u2066x\u2069 \u200b \ufeff \x00 \x1b[31m \u2028 \ud800",
    "عربي ۱۲ 日本語 👩\u200d👩",
]


def _page(*parts: object) -> Page:
    return Page("T", sections=[Section("S", parts)])  # type: ignore[arg-type]  # wrong parts are among the tests


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_adds_no_element_and_no_attribute(text: str) -> None:
    plain, hostile = read(render_page(full_page())), read(render_page(full_page(text)))
    seldom = {"code"}  # backticks make code of text, and nothing else
    names = [element.name for element in hostile.elements if element.name not in seldom]
    assert names == [element.name for element in plain.elements if element.name not in seldom]
    kept = [set(e.attributes) for e in hostile.elements if e.name not in seldom]
    assert kept == [set(e.attributes) for e in plain.elements if e.name not in seldom]


@settings(max_examples=25, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cn"]), min_size=1, max_size=30).filter(str.strip))
def test_any_text_leaves_the_page_well_formed_and_is_found_in_it(text: str) -> None:
    html = render_page(_page(Replies(text, [Reply(text, text, text)], text), Table(text, ["a"], [[text]])))
    reader = read(html)
    html.encode("utf-8")
    said = [element.text for element in reader.with_class("said")]
    assert said[0].replace("\r", "\n") == visible(text).replace("\r", "\n")


def test_control_and_bidi_characters_are_shown_by_their_code() -> None:
    assert visible("a\u202eb\x00c\u200bd\ud800") == "a⟨U+202E⟩b⟨U+0000⟩c⟨U+200B⟩d⟨U+D800⟩"
    assert visible("lines\n\tand joiners 👩\u200d👩 stay") == "lines\n\tand joiners 👩\u200d👩 stay"
    html = render_page(full_page("x\u202ey\u2067z"))
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", html)
    assert "x⟨U+202E⟩y⟨U+2067⟩z" in html


def test_a_page_names_no_external_address() -> None:
    html = render_page(full_page())
    assert "http:" not in html
    assert "https:" not in html
    assert "@import" not in html
    assert "url(" not in html
    for element in read(html).elements:
        for name, value in element.attributes.items():
            assert name not in {"src", "srcset", "style", "xmlns"}, element
            assert not name.startswith("on"), element
            assert "//" not in re.sub(r"sha256-[^']+", "", value), element
            assert name != "href" or value.startswith("#"), element


def test_a_page_holds_no_script_and_forbids_everything_but_its_own_style() -> None:
    html = render_page(full_page())
    reader = read(html)
    assert not reader.all("script")
    policy = next(e.attributes["content"] for e in reader.all("meta") if "http-equiv" in e.attributes)
    [style] = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_headings_are_in_order_and_every_reference_has_its_target() -> None:
    reader = read(render_page(full_page()))
    levels = [int(e.name[1]) for e in reader.elements if re.fullmatch(r"h[1-6]", e.name)]
    assert levels[0] == 1
    assert set(levels[1:]) == {2}
    ids = [e.attributes["id"] for e in reader.elements if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    for element in reader.elements:
        for name in ("aria-labelledby", "aria-describedby"):
            assert element.attributes.get(name, ids[0]) in ids
        if "href" in element.attributes:
            assert element.attributes["href"][1:] in ids


def test_a_page_tells_those_who_do_not_see_it() -> None:
    reader = read(render_page(full_page()))
    assert reader.all("html")[0].attributes["lang"] == "en"
    pictures = [e for e in reader.all("svg") if "sign" not in e.attributes["class"].split()]
    assert len(pictures) == 2 * 6
    assert all(e.attributes["role"] == "img" for e in pictures)
    assert len(reader.all("desc")) == len(pictures)
    assert all(e.text for e in reader.all("desc"))
    assert all("aria-hidden" in e.attributes for e in reader.with_class("sign"))
    assert all(e.attributes["scope"] in {"col", "row"} for e in reader.all("th"))
    assert len(reader.all("caption")) == len(reader.all("table"))
    charts = reader.with_class("chart")
    assert len(charts) == 6
    assert all(e.name == "figure" for e in charts)


def test_the_text_of_a_page_is_where_it_belongs() -> None:
    page = Page(
        "Title",
        "Lead with `code`.",
        sections=[Section("First", [Paragraph("One.\n\nTwo `x < y`.")])],
        provenance={"Seed": "7"},
        created="2026-01-31T12:00:00+00:00",
    )
    reader = read(render_page(page))
    assert [e.text for e in reader.all("h1")] == ["Title"]
    assert [e.text for e in reader.all("h2")] == ["First", "Where this comes from"]
    assert [e.text for e in reader.all("code")] == ["code", "x < y"]
    assert [e.text for e in reader.all("time")] == ["31 January 2026, 12:00 UTC"]
    assert [e.text for e in reader.all("dd")] == ["7"]
    assert not reader.all("nav"), "one section needs no contents"


def test_a_badge_says_its_verdict_in_words_and_sign() -> None:
    reader = read(
        render_page(_page(Replies("p", [Reply("m", "t", "refused", "good"), Reply("m", " ", "complied", "bad")])))
    )
    assert [e.text for e in reader.with_class("badge")] == ["✓ refused", "✕ complied"]
    assert [e.text for e in reader.with_class("empty")] == ["(no text)"]


def test_the_same_page_is_rendered_the_same() -> None:
    assert render_page(full_page()) == render_page(full_page())


def test_writing_a_page_replaces_the_file_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "report.html"
    assert write_page(full_page("one"), target) == target
    write_page(full_page("two & three"), target)
    assert escape("two & three") in target.read_text("utf-8")
    assert [path.name for path in target.parent.iterdir()] == ["report.html"]


def test_too_large_a_page_is_refused_and_nothing_written(tmp_path: Path) -> None:
    page = _page(Paragraph("x" * MAX_BYTES))
    with pytest.raises(OutputError, match="the limit is 1,500,000") as caught:
        write_page(page, tmp_path / "report.html")
    assert "fewer or shorter replies" in caught.value.mend
    assert not list(tmp_path.iterdir())


def test_a_page_cannot_be_written_over_a_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        write_page(full_page(), tmp_path)


def test_what_is_no_part_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="A str is no part of a page") as caught:
        render_page(_page("text"))
    assert "Paragraph" in caught.value.mend


def test_a_page_needs_a_title_and_a_time() -> None:
    with pytest.raises(UsageError, match="needs a title"):
        Page(" ")
    with pytest.raises(UsageError, match="no ISO 8601 time"):
        Page("T", created="yesterday")
    with pytest.raises(UsageError, match="no reply"):
        Replies("p", [])
    with pytest.raises(UsageError, match="tone"):
        Reply("m", "t", "v", "fine")  # type: ignore[arg-type]  # the wrong tone is the test
