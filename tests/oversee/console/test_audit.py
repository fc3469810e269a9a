"""The log: searched, read, proven and verified."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
from sqlalchemy import text

from oversee.console.conftest import Console, Visitor
from safetylayers.oversee.audit.entry import Entry
from safetylayers.oversee.audit.proof import check_proof
from safetylayers.oversee.console.search import PAGE, Query, first_at, search


@pytest.fixture
def audrey(gateway: Console) -> Visitor:
    return gateway.logged_in("audrey", "auditor")


def listed(visitor: Visitor, **fields: str) -> list[int]:
    page = visitor.get("/console/audit", params=fields)
    assert page.status_code == 200, page.text
    return [int(index) for index in re.findall(r'href="/console/audit/(\d+)"', page.text)]


def test_entries_are_found_by_kind_id_person_and_time(gateway: Console, audrey: Visitor) -> None:
    request = gateway.chat().headers["x-request-id"]
    entries = gateway.entries()
    released = [entry.index for entry in entries if entry.kind == "release"]
    assert listed(audrey, kind="release") == released
    of_request = [entry.index for entry in entries if entry.facts.get("request") == request]
    assert listed(audrey, id=request) == of_request[::-1]
    assert listed(audrey, id=f"{request}/0") == released
    assert listed(audrey, actor="audrey") == [entry.index for entry in entries if entry.kind == "logged-in"]
    middle = entries[len(entries) // 2].time
    after = [entry.index for entry in entries if entry.time >= middle]
    assert listed(audrey, since=middle.isoformat()) == after[::-1]
    before = [entry.index for entry in entries if entry.time < middle]
    assert listed(audrey, until=middle.replace(tzinfo=None).isoformat()) == before[::-1]
    assert listed(audrey, kind="nothing of the kind") == []
    assert audrey.get("/console/audit", params={"since": "yesterday"}).status_code == 400


def test_pages_follow_each_other_without_gaps(gateway: Console, audrey: Visitor) -> None:
    with gateway.site.database.write() as connection:
        gateway.site.log.append_in(connection, [Entry(kind="counted", actor="a test") for _ in range(2 * PAGE + 7)])
    wanted = [entry.index for entry in gateway.entries("counted")][::-1]
    found, before = [], ""
    while True:
        page = listed(audrey, kind="counted", before=before)
        found += page
        if len(page) < PAGE:
            break
        before = str(page[-1])
    assert found == wanted
    assert listed(audrey, kind="counted", before="9" * 5000) == wanted[:PAGE]


def test_the_first_entry_at_a_time_is_found(gateway: Console) -> None:
    database, entries = gateway.site.database, gateway.entries()
    assert first_at(database, entries[0].time - timedelta(days=1)) == 0
    assert first_at(database, entries[-1].time + timedelta(days=1)) == len(entries)
    for entry in entries:
        first = next(other.index for other in entries if other.time >= entry.time)
        assert first_at(database, entry.time) == first
    assert search(database, Query(kind="request")).entries == []


def test_an_entry_is_read_with_its_text_and_that_is_logged(gateway: Console, audrey: Visitor) -> None:
    gateway.upstream.text = "A <b>reply</b> \u202eend"
    gateway.chat()
    [entry] = gateway.entries("release")
    page = audrey.get(f"/console/audit/{entry.index}").text
    assert "A &lt;b&gt;reply&lt;/b&gt; ⟨U+202E⟩end" in page
    assert [found.facts["entry"] for found in gateway.entries("text-read")] == [entry.index]
    [request] = gateway.entries("request")
    assert "What is the capital of France?" in audrey.get(f"/console/audit/{request.index}").text
    gateway.site.log.erase(entry.subject, "a test")
    assert "It was erased." in audrey.get(f"/console/audit/{entry.index}").text
    assert audrey.get("/console/audit/99999999").status_code == 404
    assert audrey.get("/console/audit/99999999/proof").status_code == 404
    for odd in ("9" * 30, "9" * 5000, "-1", "1x", "\u0661"):
        for path in (f"/console/audit/{odd}", f"/console/audit/{odd}/proof"):
            found = audrey.get(path)
            assert found.status_code == 404, path
            assert "content-security-policy" in found.headers


def test_a_proof_proves_and_holds_the_text_only_where_it_is_asked_for(gateway: Console, audrey: Visitor) -> None:
    gateway.chat()
    [entry] = gateway.entries("release")
    bare = audrey.get(f"/console/audit/{entry.index}/proof")
    assert bare.headers["content-disposition"] == f'attachment; filename="entry-{entry.index}.proof.json"'
    assert check_proof(bare.text, gateway.site.log.verifier).index == entry.index
    assert "Paris" not in bare.text
    assert not gateway.entries("text-read")
    whole = audrey.get(f"/console/audit/{entry.index}/proof?text=1").text
    assert check_proof(whole, gateway.site.log.verifier).kind == "release"
    assert "Paris" in json.loads(whole)["payload"]
    assert gateway.entries("text-read")


def test_verifying_says_that_the_log_is_whole_and_where_it_is_not(gateway: Console, audrey: Visitor) -> None:
    gateway.chat()
    assert "The log verifies" in audrey.submit("/console/audit/verify").text
    [entry] = gateway.entries("release")
    with gateway.site.database.write() as connection:
        connection.execute(text(f"UPDATE log_entries SET kind = 'other' WHERE \"index\" = {entry.index}"))
    page = audrey.submit("/console/audit/verify").text
    assert "The log does not verify" in page
    assert f"First bad entry: <strong>{entry.index}</strong>" in page
