"""The policy: two people change it, and what changes is shown."""

from __future__ import annotations

import threading
import time

from oversee.console.conftest import Console

OTHER = "version: 1\nname: other\nattempts: 3\nblocked_text: 'No <b>way</b>.'\n"


def test_two_people_change_the_policy(gateway: Console) -> None:
    adam, alice = gateway.logged_in("adam", "admin"), gateway.logged_in("alice", "admin")
    assert adam.submit("/console/policy/propose", policy=OTHER, reason="a test").status_code == 303
    page = alice.get("/console/policy").text
    assert '<span class="removed">-attempts: 2</span>' in page
    assert '<span class="added">+attempts: 3</span>' in page
    assert "No &lt;b&gt;way&lt;/b&gt;." in page
    [proposal] = gateway.site.proposals.open_ones()
    alone = adam.submit("/console/policy/approve", proposal=proposal.id)
    assert (alone.status_code, gateway.site.shelf.current.policy.name) == (403, "plain")
    assert "/console/policy/approve" not in adam.get("/console/policy").text
    assert alice.submit("/console/policy/approve", proposal=proposal.id).status_code == 303
    assert gateway.site.shelf.current.policy.name == "other"


def test_a_policy_that_makes_no_sense_is_shown_again_with_why(gateway: Console) -> None:
    adam = gateway.logged_in("adam", "admin")
    for policy, why in [
        ("version: 1\nname: [", "no YAML"),
        ("version: 1\nname: x\nattempts: 99\n", "attempts"),
        ("version: 1\nname: plain\n", "in force already"),
        ("version: 1\nname: x\nguards: {g: {kind: unheard-of, action: block}}\n", "unheard-of"),
    ]:
        page = adam.submit("/console/policy/propose", policy=policy, reason="a test & more")
        assert page.status_code == 400, page.text
        assert why in page.text
        assert f">\n{policy}</textarea>" in page.text
        assert 'value="a test &amp; more"' in page.text
    assert gateway.site.proposals.open_ones() == []


def test_proposals_are_rejected_or_withdrawn(gateway: Console) -> None:
    adam, alice = gateway.logged_in("adam", "admin"), gateway.logged_in("alice", "admin")
    for person, path in ((alice, "reject"), (adam, "withdraw")):
        adam.submit("/console/policy/propose", policy=OTHER, reason="a test")
        [proposal] = gateway.site.proposals.open_ones()
        done = person.submit(f"/console/policy/{path}", proposal=proposal.id, remark="not now")
        assert done.status_code == 303
    assert gateway.site.proposals.open_ones() == []


def test_a_proposal_of_another_kind_is_not_approved_here(gateway: Console) -> None:
    ada, both = gateway.logged_in("ada", "operator"), gateway.logged_in("bo", "operator", "admin")
    ada.submit("/console/mode/stop", reason="a test")
    ada.submit("/console/mode/propose", mode="run", reason="a test")
    [proposal] = gateway.site.proposals.open_ones()
    assert both.submit("/console/policy/approve", proposal=proposal.id).status_code == 400
    assert gateway.site.proposals.open_ones() == [proposal]


def test_a_long_policy_does_not_hold_up_others(gateway: Console) -> None:
    adam, alice = gateway.logged_in("adam", "admin"), gateway.logged_in("alice", "admin")
    settings = "".join(f"      k{number}: v\n" for number in range(40_000))
    policy = f"version: 1\nname: x\nguards:\n  g:\n    kind: unheard-of\n    settings:\n{settings}"
    csrf, done = adam.token(), threading.Event()

    def propose() -> None:
        adam.post("/console/policy/propose", data={"csrf": csrf, "policy": policy, "reason": "a test"})
        done.set()

    thread = threading.Thread(target=propose)
    began_all, waits = time.monotonic(), []
    thread.start()
    while not done.is_set():
        began = time.monotonic()
        assert alice.get("/console/static/console.js").status_code == 200
        waits.append(time.monotonic() - began)
    thread.join()
    assert max(waits) < (time.monotonic() - began_all) / 2
