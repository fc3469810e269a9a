"""The page in a real browser, and what it refuses."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from oversee.console.browsing import CHROMIUM, FLAGS
from oversee.servers import running
from safetylayers.align.ask.asking import Asking
from safetylayers.align.ask.choosing import Candidates
from safetylayers.align.ask.labels import Labels
from safetylayers.align.ask.page import create_app, serve
from safetylayers.align.ask.page.guard import HEADERS
from safetylayers.align.ask.questions import Question
from safetylayers.errors import UsageError

TOKEN = "the-token-that-was-printed"
HOSTILE = (
    '<script>document.title = "taken"</script><img src="http://192.0.2.1/x" onerror="document.title=1">'
    "</div></form>' \" & <b>bold</b> {{ 7 * 7 }} \u202etxt\u202c \x07"
)
SHOWN = HOSTILE.replace("\u202e", "⟨U+202E⟩").replace("\u202c", "⟨U+202C⟩").replace("\x07", "⟨U+0007⟩")
PHONE = {"width": 360, "height": 740}


@dataclass
class Sitting:
    """A running page."""

    address: str
    asking: Asking
    labels: Labels
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = httpx.Client(base_url=self.address, follow_redirects=True, timeout=20)

    def csrf(self) -> str:
        """Enter without a browser, and return the forms' token."""
        page = self.client.get("/", params={"token": TOKEN}).text
        return page.partition('name="csrf" value="')[2].partition('"')[0]

    def answers(self) -> list[tuple[str, str]]:
        return [(label.answer, label.by) for label in self.labels.current()]


Starter = Callable[..., Sitting]


def questions(count: int, text: str = "", value: str = "") -> tuple[Question, ...]:
    return tuple(
        Question.of(
            ({"role": "system", "content": "Be kind."}, {"role": "user", "content": f"Question {number}? {text}"}),
            f"Yes {number}.{text}",
            f"No {number}.{text}",
            value=value,
        )
        for number in range(count)
    )


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    """Start pages, each with a store of its own."""
    opened = []

    def begin(count: int = 20, *, by: str = "ann", text: str = "", value: str = "", budget: int = 12) -> Sitting:
        labels = Labels(tmp_path / f"{len(opened)}.db")
        differences = np.random.default_rng(0).standard_normal((count, 4))
        asking = Asking(Candidates(questions(count, text, value), differences), labels, budget=budget)
        server = running(create_app(asking, token=TOKEN, by=by))
        sitting = Sitting(server.__enter__(), asking, labels)
        opened.append((server, sitting))
        return sitting

    yield begin
    for server, sitting in opened:
        sitting.client.close()
        server.__exit__(None, None, None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


Visit = Callable[..., Page]


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Open the page in a browser of its own; nothing is complained about there, and nothing is asked of elsewhere."""
    troubles: list[str] = []
    contexts: list[BrowserContext] = []

    def open_(sitting: Sitting, **options: object) -> Page:
        contexts.append(browser.new_context(**options))  # type: ignore[arg-type]
        page = contexts[-1].new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda said: troubles.append(said.text))
        page.on(
            "request",
            lambda sent: None if sent.url.startswith((sitting.address, "data:")) else troubles.append(sent.url),
        )
        page.goto(f"{sitting.address}/?token={TOKEN}")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert troubles == []


def far(page: Page, text: str) -> None:
    expect(page.locator(".far p").first).to_contain_text(text)


def asked(page: Page) -> str:
    return page.locator('input[name="question"]').get_attribute("value") or ""


def test_keys_answer_skip_and_undo(start: Starter, visit: Visit) -> None:
    sitting = start()
    page = visit(sitting)
    expect(page).to_have_url(f"{sitting.address}/")  # the token is not left in the address
    far(page, "0 of 12 answered. Answered by ann.")
    for number, key in enumerate("120", start=1):
        page.keyboard.press(key)
        far(page, f"{number} of 12 answered")
    skipped = asked(page)
    page.keyboard.press("S")
    expect(page.locator(f'input[value="{skipped}"]')).to_have_count(0)
    far(page, "3 of 12 answered, less than a minute to go")
    assert [answer for answer, _ in sitting.answers()][2:] == ["equal", "skip"]
    page.keyboard.press("u")
    expect(page.locator(f'input[value="{skipped}"]')).to_have_count(1)
    page.keyboard.press("u")
    far(page, "2 of 12 answered")
    assert len(sitting.answers()) == 2


def test_the_reply_that_is_clicked_is_the_one_that_is_kept(start: Starter, visit: Visit) -> None:
    sitting = start(budget=6)
    page, clicked = visit(sitting), []
    for number in range(6):
        article = page.locator("article").nth(number % 2)
        clicked.append(article.locator(".text").inner_text())
        article.get_by_role("button").click()
        far(page, f"{number + 1} of 6 answered")
    assert [pair.chosen for pair in sitting.labels.pairs()] == clicked
    expect(page.get_by_role("heading", name="That is all. Thank you.")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    far(page, "5 of 6 answered")
    expect(page.locator("article")).to_have_count(2)


def test_everybody_is_asked_for_their_name_once(start: Starter, visit: Visit) -> None:
    sitting = start(by="")
    ann, bea = visit(sitting), visit(sitting)
    for page, name in ((ann, "ann"), (bea, "Béa <b>")):
        page.keyboard.type(name)  # the field has the focus, and the letters in it are no answers
        page.keyboard.press("Enter")
        far(page, f"0 of 12 answered. Answered by {name}.")
    ann.keyboard.press("1")
    far(ann, "1 of 12 answered")
    ann.reload()
    far(ann, "Answered by ann.")
    far(ann, "1 of 12 answered")
    bea.keyboard.press("0")
    far(bea, "1 of 12 answered")
    assert {by for _, by in sitting.answers()} == {"ann", "Béa <b>"}


def test_it_tells_how_good_the_reward_has_become(start: Starter, visit: Visit) -> None:
    sitting = start()
    page = visit(sitting)
    for number in range(1, 11):
        page.keyboard.press("1")
        far(page, f"{number} of 12 answered")
    expect(page.locator(".soft")).to_contain_text(re.compile(r"the reward foresees [\d.]+ % \[[\d.]+, [\d.]+\]"))


@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_hostile_text_is_shown_as_text_and_fits(start: Starter, visit: Visit, width: int, scheme: str) -> None:
    sitting = start(text=HOSTILE + "w" * 400, by=HOSTILE[:60], value="<i>honesty</i>")
    page = visit(sitting, viewport={"width": width, "height": 740}, color_scheme=scheme)
    expect(page.locator("article .text")).to_contain_text([SHOWN, SHOWN])
    expect(page.locator(".turn .text")).to_contain_text(["Be kind.", SHOWN])
    expect(page.get_by_role("heading", level=1)).to_have_text("Which reply is better in terms of <i>honesty</i>?")
    assert page.locator("main script, main img, main b, main i").count() == 0
    assert "taken" not in page.title()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.keyboard.press("2")
    far(page, "1 of 12 answered")
    assert len(sitting.answers()) == 1


def test_replies_stand_side_by_side_or_on_a_phone_one_below_the_other(start: Starter, visit: Visit) -> None:
    sitting = start()
    wide, phone = visit(sitting), visit(sitting, viewport=PHONE, has_touch=True, is_mobile=True)
    for page, below in ((wide, False), (phone, True)):
        first, second = (page.locator("article").nth(place).bounding_box() for place in (0, 1))
        assert first is not None
        assert second is not None
        assert (second["y"] >= first["y"] + first["height"]) is below
    phone.get_by_role("button", name="1 This one").tap()
    far(phone, "1 of 12 answered")
    assert min(box["height"] for box in [phone.locator("button").nth(n).bounding_box() for n in range(5)] if box) >= 40


def test_it_works_without_scripts_and_a_key_held_down_answers_once(start: Starter, visit: Visit) -> None:
    sitting = start()
    plain = visit(sitting, java_script_enabled=False)
    plain.get_by_role("button", name="Equally good").click()
    far(plain, "1 of 12 answered")
    page = visit(sitting)
    page.keyboard.down("1")
    page.keyboard.down("1")
    far(page, "2 of 12 answered")
    page.keyboard.down("1")
    page.wait_for_timeout(300)
    far(page, "2 of 12 answered")
    assert len(sitting.answers()) == 2


def test_whoever_has_not_the_token_is_refused(start: Starter) -> None:
    sitting = start()
    for path in ("/", "/?token=wrong", "/?token="):
        refused = sitting.client.get(path)
        assert refused.status_code == 403
        assert "Yes" not in refused.text
        assert "set-cookie" not in refused.headers
    for path in ("/answer", "/undo", "/name"):
        assert sitting.client.post(path, data={"csrf": "x"}).status_code == 403
    entered = sitting.client.get(f"/?token={TOKEN}", follow_redirects=False)
    cookie = entered.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert TOKEN not in cookie


def test_a_link_on_another_site_leads_in(start: Starter, browser: Browser) -> None:
    sitting = start()

    async def elsewhere(_request: Request) -> Response:
        return HTMLResponse(f'<a href="{sitting.address}/?token={TOKEN}">Please answer</a>')

    with running(Starlette(routes=[Route("/", elsewhere)])) as address, browser.new_context() as context:
        page = context.new_page()
        page.goto(address.replace("127.0.0.1", "localhost"))  # as another site
        page.get_by_role("link").click()
        far(page, "0 of 12 answered. Answered by ann.")
        page.keyboard.press("1")
        far(page, "1 of 12 answered")


def test_whoever_calls_it_by_another_name_is_refused(start: Starter) -> None:
    sitting = start()
    sitting.csrf()
    port = sitting.address.rpartition(":")[2]
    for host, status in (
        (f"localhost:{port}", 200),
        (f"[::1]:{port}", 200),
        ("evil.example", 421),
        (f"127.0.0.1.evil.example:{port}", 421),
        ("", 421),
    ):
        for path in ("/static/ask.js", f"/?token={TOKEN}"):
            found = sitting.client.get(path, headers={"host": host}, follow_redirects=False)
            assert (found.status_code == 421) is (status == 421), (host, path)


def test_a_form_of_somewhere_else_is_refused(start: Starter) -> None:
    sitting = start()
    csrf = sitting.csrf()
    shown = sitting.asking.next("ann")
    assert shown is not None
    form = {"question": shown.question.id, "key": "1"}
    for bad in (form, {**form, "csrf": ""}, {**form, "csrf": csrf[:-1]}, {**form, "csrf": "é"}):
        assert sitting.client.post("/answer", data=bad).status_code == 403
    assert sitting.client.get("/answer", params={**form, "csrf": csrf}).status_code == 405
    assert sitting.answers() == []
    for wrong in ({"question": "none"}, {"key": "9"}):
        refused = sitting.client.post("/answer", data={**form, "csrf": csrf, **wrong})
        assert refused.status_code == 400
        assert "Answer one of" in refused.text
    assert sitting.client.post("/answer", data={**form, "csrf": csrf}).status_code == 200
    assert len(sitting.answers()) == 1


def test_what_is_longer_than_any_form_is_refused_unread(start: Starter) -> None:
    sitting = start()
    for body in (b"csrf=" + b"x" * 20_000, iter([b"csrf=x"])):
        found = sitting.client.post(
            "/answer", content=body, headers={"content-type": "application/x-www-form-urlencoded"}
        )
        assert found.status_code == 413


def test_every_response_keeps_scripts_frames_and_caches_out(start: Starter) -> None:
    sitting = start()
    sitting.csrf()
    for path in ("/", "/static/ask.css", "/nowhere", "/static/../app.py", "/static/none", "/openapi.json", "/docs"):
        found = sitting.client.get(path)
        assert "default-src 'none'" in found.headers["content-security-policy"]
        assert "unsafe" not in found.headers["content-security-policy"]
        assert found.headers["cache-control"] == "no-store"
        assert found.status_code in (200, 404)
    assert "<script>" not in sitting.client.get("/").text
    assert " on" + "click" not in sitting.client.get("/").text


def test_what_nobody_foresaw_is_no_way_around_that(start: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    sitting = start()
    sitting.csrf()

    def fail(_by: str) -> None:
        raise RuntimeError("not foreseen")

    monkeypatch.setattr(sitting.asking, "next", fail)
    found = sitting.client.get("/")
    assert found.status_code == 500
    assert "not foreseen" not in found.text
    assert {name: found.headers.get(name) for name in HEADERS} == HEADERS


def test_a_form_that_is_none_of_the_pages_is_told_on_the_page(start: Starter) -> None:
    sitting = start()
    csrf = sitting.csrf()
    for sent in ("csrf", "question", "key", "name"):
        path = "/name" if sent == "name" else "/answer"
        told = sitting.client.post(path, data={"csrf": csrf}, files={sent: b"x"})
        assert told.status_code == 400
        assert told.headers["content-type"].startswith("text/html")
        assert "no form of this page" in told.text


def test_a_store_that_cannot_be_written_is_told_on_the_page(start: Starter) -> None:
    sitting = start()
    csrf = sitting.csrf()
    shown = sitting.asking.next("ann")
    assert shown is not None
    sitting.labels.path.write_bytes(b"no database any more" * 100)
    for beside in ("-wal", "-shm"):
        Path(f"{sitting.labels.path}{beside}").unlink(missing_ok=True)
    told = sitting.client.post("/answer", data={"csrf": csrf, "question": shown.question.id, "key": "1"})
    assert told.status_code == 500
    assert "not a store of answers" in told.text
    assert "Give another --store" in told.text


def test_a_name_that_is_none_is_told(start: Starter) -> None:
    sitting = start(by="")
    csrf = sitting.csrf()
    for name in ("", "   ", "x" * 101, "a\nb"):
        assert sitting.client.post("/name", data={"csrf": csrf, "name": name}).status_code == 400
    assert "Who answers?" in sitting.client.get("/").text


def test_a_name_stays(start: Starter) -> None:
    fixed, open_ = start(by="ann"), start(by="")
    for sitting in (fixed, open_):
        form = {"csrf": sitting.csrf()}
        assert sitting.client.post("/name", data={**form, "name": " ann"}).status_code == 200  # clicked twice, perhaps
        refused = sitting.client.post("/name", data={**form, "name": "bea"})
        assert refused.status_code == 409
        assert "answers as ann" in refused.text
        question = sitting.asking.candidates.questions[0].id
        sitting.client.post("/answer", data={**form, "question": question, "key": "0"})
        assert sitting.answers() == [("equal", "ann")]


def test_nobody_answers_without_a_name(start: Starter) -> None:
    sitting = start(by="")
    csrf = sitting.csrf()
    form = {"csrf": csrf, "question": sitting.asking.candidates.questions[0].id, "key": "1"}
    for path in ("/answer", "/undo"):
        told = sitting.client.post(path, data=form)
        assert told.status_code == 400
        assert "is no name" in told.text
    assert sitting.answers() == []


def test_a_port_that_is_taken_is_told(start: Starter) -> None:
    sitting = start()
    port = int(sitting.address.rpartition(":")[2])
    with pytest.raises(UsageError, match="cannot listen"):
        serve(create_app(sitting.asking, token=TOKEN), port=port, announce=lambda _: None)


def test_it_listens_on_this_machine_alone_and_says_where(start: Starter) -> None:
    told: list[str] = []
    app = create_app(start().asking, token=TOKEN, by="ann")
    threading.Thread(target=serve, args=(app,), kwargs={"port": 0, "announce": told.append}, daemon=True).start()
    for _ in range(500):
        if told:
            break
        time.sleep(0.01)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", told[0])
    found = httpx.get(f"{told[0]}/?token={TOKEN}")
    assert found.status_code == 303
    assert found.headers["location"] == "/"
