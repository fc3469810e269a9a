"""Replies that wait for a person."""

from __future__ import annotations

from datetime import UTC, datetime
from html import unescape

from oversee.console.asking import Asked, ask, until
from oversee.console.conftest import HOLDING, Console, Starter
from safetylayers.oversee.console.pages.review import MOST
from safetylayers.oversee.review.held import Held, Texts
from safetylayers.oversee.review.tables import held as held_table

REPLY = 'It is K-1234 & <script>alert("x")</script>\n\n  \u202eend'


def hold(gateway: Console, reply: str = REPLY) -> tuple[Asked, Held]:
    gateway.upstream.text = reply
    asked = ask(gateway, 'Is it "so" & <b>bold</b>?')
    until(gateway.house.desk.replies.waiting)
    [held] = gateway.house.desk.replies.waiting()
    return asked, held


def test_the_list_shows_no_text_and_reading_one_is_logged(start: Starter) -> None:
    with start(HOLDING) as gateway:
        rita = gateway.logged_in("rita", "reviewer")
        asked, held = hold(gateway)
        listed = rita.get("/console/review").text
        assert held.request in listed
        assert "secrets: code" in listed
        assert "K-1234" not in listed
        assert "1 held reply waits" in listed
        assert not gateway.entries("held-read")
        page = rita.get(f"/console/review/{held.id}").text
        assert "K-1234 &amp; &lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;" in page
        assert "⟨U+202E⟩end" in page
        assert "characters that cannot be seen" in page
        assert len(gateway.entries("held-read")) == 1
        rita.submit(f"/console/review/{held.id}/rejected", reason="a test")
        assert asked.wait().finish == "content_filter"


def test_what_goes_out_unedited_is_what_was_held(start: Starter) -> None:
    with start(HOLDING) as gateway:
        rita = gateway.logged_in("rita", "reviewer")
        asked, held = hold(gateway)
        page = rita.get(f"/console/review/{held.id}").text
        field = unescape(page.partition("<textarea")[2].partition(">\n")[2].partition("</textarea>")[0])
        assert field == REPLY
        sent = field.replace("\n", "\r\n")  # as browsers do
        done = rita.submit(f"/console/review/{held.id}/edited", text=sent, reason="a test")
        assert done.headers["location"] == "/console/review?done=decided"
        assert asked.wait().text == REPLY


def test_decisions_that_cannot_be_are_refused(start: Starter) -> None:
    with start(HOLDING) as gateway:
        rita = gateway.logged_in("rita", "reviewer")
        asked, held = hold(gateway)
        for decision, fields, status in [
            ("ok", {}, 403),
            ("waiting", {}, 403),
            ("deleted", {}, 404),
            ("rejected", {}, 403),
            ("edited", {"reason": "no text"}, 400),
        ]:
            assert rita.submit(f"/console/review/{held.id}/{decision}", **fields).status_code == status, decision
        assert rita.submit(f"/console/review/{held.id}/released").status_code == 303
        again = rita.submit(f"/console/review/{held.id}/rejected", reason="too late")
        assert again.status_code == 403
        assert "released already" in again.text
        assert rita.get(f"/console/review/{held.id}").status_code == 404
        assert asked.wait().text == REPLY


def test_samples_are_looked_at_afterwards(gateway: Console) -> None:
    rita, ben = gateway.logged_in("rita", "reviewer"), gateway.logged_in("ben", "reviewer")
    asker = gateway.principal("carl", "caller")
    kept = [
        gateway.house.desk.replies.sample(
            Texts("a prompt", "a reply"), request=f"req-{n}", conversation=None, asker=asker, findings=[]
        )
        for n in range(2)
    ]
    page = rita.get(f"/console/review/{kept[0].id}").text
    assert "a reply" in page
    assert "Should not have left" in page
    assert rita.submit(f"/console/review/{kept[0].id}/ok").status_code == 303
    assert ben.submit(f"/console/review/{kept[1].id}/not-ok", reason="a test").status_code == 303
    assert "No samples wait." in rita.get("/console/review/list").text


def test_nobody_reviews_the_reply_to_their_own_request(gateway: Console) -> None:
    rita = gateway.logged_in("rita", "reviewer")
    person = next(found for found in gateway.site.people.everybody() if found.name == "rita")
    asker = gateway.principal("carl", "caller")
    own = type(asker)(id="key-1", person=person.id, name="rita (key)", roles=asker.roles)
    held = gateway.house.desk.replies.sample(
        Texts("a prompt", "a reply"), request="req-1", conversation=None, asker=own, findings=[]
    )
    page = rita.get(f"/console/review/{held.id}").text
    assert "your own request" in page
    assert 'action="/console/review/' not in page
    assert rita.submit(f"/console/review/{held.id}/ok").status_code == 403


def test_a_long_list_is_cut_and_says_how_much_more_waits(gateway: Console) -> None:
    rita = gateway.logged_in("rita", "reviewer")
    row = {"kind": "sample", "key": "key-1", "asked_by": "p", "state": "waiting", "findings": [], "sealed": b"x"}
    rows = [
        {**row, "id": f"{number:032x}", "request": f"req-{number}", "created": datetime.now(UTC)}
        for number in range(MOST + 7)
    ]
    with gateway.site.database.write() as connection:
        connection.execute(held_table.insert(), rows)
    page = rita.get("/console/review/list").text
    assert page.count('href="/console/review/') == MOST
    assert "7 more wait." in page
