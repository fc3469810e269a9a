"""The console in a real browser, against a running gateway."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from oversee.console.asking import ask, until
from oversee.console.browsing import Visit, log_in
from oversee.console.conftest import HOLDING, Console, Starter
from oversee.console.scripted import Scripted
from oversee.identity.house import PASSWORD
from safetylayers.oversee.modes.mode import Mode

HOSTILE = '<script>document.title = "taken"</script><img src=x onerror="document.title=1">\' " & \u202etxt\u202c \x07'
SHOWN = HOSTILE.replace("\u202e", "⟨U+202E⟩").replace("\u202c", "⟨U+202C⟩").replace("\x07", "⟨U+0007⟩")


def test_a_wrong_password_is_told_and_a_right_one_opens(gateway: Console, visit: Visit) -> None:
    gateway.person("ada", "operator")
    page = visit(gateway)
    expect(page).to_have_url(f"{gateway.address}/console/login?next=/console/")
    log_in(page, "ada", "not the right password")
    expect(page.get_by_role("alert")).to_contain_text("Name or password is wrong.")
    log_in(page, "ada", PASSWORD)
    expect(page.get_by_label("Mode", exact=True)).to_contain_text("Running")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    page.goto(f"{gateway.address}/console/live")
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()


def test_a_held_reply_is_edited_and_the_caller_reads_the_edit(start: Starter, visit: Visit) -> None:
    with start(HOLDING) as gateway:
        page = visit(gateway, "rita", "reviewer")
        page.goto(f"{gateway.address}/console/review")
        expect(page.get_by_text("Nothing waits.")).to_be_visible()
        gateway.upstream.text = "The code is K-1234."
        asked = ask(gateway, "What is the code?")
        page.locator("tbody a").click()  # it came into the list by itself
        expect(page.get_by_text("What is the code?")).to_be_visible()
        expect(page.locator("[data-left]")).to_contain_text("s")
        field = page.get_by_label("Goes out in its place")
        expect(field).to_have_value("The code is K-1234.")
        field.fill("The code is\nnot for you.")
        page.locator("form", has_text="Edit").get_by_label("Reason").fill("a test")
        page.get_by_role("button", name="Edit and release").click()
        expect(page.get_by_text("Decided.")).to_be_visible()
        assert asked.wait().text == "The code is\nnot for you."


@pytest.mark.parametrize("scripts", [True, False])
def test_two_clicks_stop_everything_with_scripts_and_without(gateway: Console, visit: Visit, scripts: bool) -> None:
    gateway.upstream.text, gateway.upstream.pause = "word " * 400, 0.05
    page = visit(gateway, "ada", "operator", java_script_enabled=scripts)
    asked = ask(gateway, stream=True)
    until(lambda: asked.parts)
    page.get_by_text("Stop everything", exact=True).click()
    page.get_by_role("button", name="Stop everything now").click()
    expect(page.get_by_label("Mode", exact=True)).to_contain_text("Stopped")
    assert gateway.house.keeper.state.mode is Mode.STOPPED
    asked.wait()
    assert asked.finish != "stop"
    assert len("".join(asked.parts).split()) < 400
    assert gateway.chat().status_code == 503


def test_the_stop_is_reached_by_keys_alone(gateway: Console, visit: Visit) -> None:
    page = visit(gateway, "ada", "operator")
    page.locator("#stop summary").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Stop everything now")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#stop summary")).to_be_focused()
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Stop everything now")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Mode", exact=True)).to_contain_text("Stopped")


def test_two_people_let_it_run_again_and_one_cannot(gateway: Console, visit: Visit) -> None:
    ada, ben = visit(gateway, "ada", "operator"), visit(gateway, "ben", "operator")
    again = visit(gateway, "ada")  # the same person, in another browser
    ada.get_by_text("Stop everything", exact=True).click()
    ada.get_by_role("button", name="Stop everything now").click()
    ada.locator("main").get_by_label("Reason").fill("the test is over")
    ada.get_by_role("button", name="Propose").click()
    expect(ada.locator("#status")).to_contain_text("A second person has to approve it.")
    expect(again.locator("#status")).to_contain_text("A second person has to approve it.")  # by itself
    expect(again.get_by_role("button", name="Approve")).to_have_count(0)
    ben.get_by_role("button", name="Approve").click()
    expect(ben.get_by_label("Mode", exact=True)).to_contain_text("Running")
    expect(ada.get_by_label("Mode", exact=True)).to_contain_text("Running")
    assert gateway.chat().status_code == 200


def test_hostile_text_is_shown_as_text_everywhere(start: Starter, visit: Visit) -> None:
    policy = HOLDING.replace("K-[0-9]{4}", "onerror")
    with start(policy) as gateway:
        gateway.upstream.text = HOSTILE
        rita, audrey = visit(gateway, "rita", "reviewer"), visit(gateway, "audrey", "auditor")
        asked = ask(gateway, HOSTILE)
        rita.goto(f"{gateway.address}/console/live")
        expect(rita.locator(".asked > summary")).to_have_text(SHOWN)
        expect(rita.locator(".scored")).to_have_text(SHOWN)
        rita.goto(f"{gateway.address}/console/review")
        rita.locator("tbody a").click()
        expect(rita.locator(".said")).to_have_text([SHOWN, SHOWN])
        rita.get_by_role("button", name="Release", exact=True).click()
        assert asked.wait().text == HOSTILE
        for kind in ("request", "release"):
            [entry] = gateway.entries(kind)
            audrey.goto(f"{gateway.address}/console/audit/{entry.index}")
            expect(audrey.locator(".said")).to_have_text(SHOWN)
        for page in (rita, audrey):
            assert page.locator("main script, main img").count() == 0
            assert "taken" not in page.title()


def test_scores_are_read_by_pointer_and_by_keys_while_the_page_moves_on(start: Starter, visit: Visit) -> None:
    engine = Scripted({"One ": -7.0, "two ": 1.25}, pause=0.1, rounds=60)
    with start(engine=engine) as gateway:
        page = visit(gateway, "ada", "operator")
        page.goto(f"{gateway.address}/console/live")
        asked = ask(gateway, stream=True)
        page.locator(".scored [title]").nth(1).hover()
        expect(page.locator(".reading")).to_have_text("two: risk +1.25 (harm -1.00); gate open at 0.50")
        page.locator(".scored").focus()
        page.keyboard.press("ArrowRight")
        expect(page.locator(".reading")).to_have_text("One: risk -7.00 (harm -1.00)")
        page.keyboard.press("ArrowRight")
        expect(page.locator(".scored [title]").nth(1)).to_be_focused()
        shown = page.locator(".scored [title]").count()
        page.wait_for_function("many => document.querySelectorAll('.scored [title]').length > many", arg=shown)
        expect(page.locator(".scored [title]").nth(1)).to_be_focused()
        page.get_by_text("Stop this request").click()
        page.get_by_role("button", name="Stop it").click()
        expect(page.get_by_text("The request is stopped")).to_be_visible()
        assert asked.wait().finish == "content_filter"


def test_a_gateway_that_is_gone_is_told(start: Starter, visit: Visit) -> None:
    with start() as gateway:
        page = visit(gateway, "ada", "operator")
    expect(page.get_by_role("alert")).to_contain_text("No word from the gateway since")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_fits_a_narrow_screen(start: Starter, visit: Visit, scheme: str) -> None:
    with start(HOLDING, engine=Scripted({"K-1234 " * 30: 0.5}, pause=0.01)) as gateway:
        size = {"width": 360, "height": 740}
        asked = ask(gateway, "x" * 300)
        until(gateway.house.desk.replies.waiting)
        [held] = gateway.house.desk.replies.waiting()
        paths = {
            "operator": ["", "live", "overrides", "policy", "map"],
            "reviewer": ["review", f"review/{held.id}"],
            "auditor": ["audit", "audit/0"],
        }
        for role, names in paths.items():
            page = visit(gateway, role, role, viewport=size, color_scheme=scheme)
            for name in names:
                page.goto(f"{gateway.address}/console/{name}")
                assert page.evaluate("document.documentElement.scrollWidth") <= 360, name
        gateway.house.engine.halt()
        gateway.logged_in("rob", "reviewer").submit(f"/console/review/{held.id}/released")
        asked.wait()
