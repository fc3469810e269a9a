"""The log: search it, read an entry, take its proof away, verify it all."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from starlette.responses import Response

from safetylayers.errors import BusyError
from safetylayers.oversee.audit.entry import Entry
from safetylayers.oversee.audit.proof import prove
from safetylayers.oversee.audit.reading import Kept
from safetylayers.oversee.audit.verify import Verification, verify
from safetylayers.oversee.audit.witness import read_witness
from safetylayers.oversee.console.search import Query, parse_moment, search
from safetylayers.oversee.console.visit import Visit
from safetylayers.oversee.gateway.errors import RequestError

if TYPE_CHECKING:
    from safetylayers.oversee.gateway.house import House

FIELDS = ("kind", "id", "actor", "since", "until")
LARGEST = 2**63 - 1


async def show(visit: Visit) -> Response:
    """Show what a search finds; without one, the newest entries."""
    return await _page(visit, None)


async def check(visit: Visit) -> Response:
    """Verify the whole log, one at a time."""
    if visit.console.verifying.locked():
        raise BusyError("The log is being verified already.", mend="Wait until that is done.")
    async with visit.console.verifying:
        found = await visit.run(_verify, visit.house)
    return await _page(visit, found)


async def entry(visit: Visit) -> Response:
    """Show one entry with its text. That somebody reads it is logged first."""
    index = _index(visit)
    found = await visit.run(_entry, visit.house, index)
    if found.payload is not None:
        await _note(visit, index)
    values = {
        "title": f"Entry {index}",
        "entry": found,
        "facts": json.dumps(found.facts, indent=2, ensure_ascii=False),
        "texts": [] if found.payload is None else list(_texts(found)),
    }
    return await visit.page("entry.html.j2", values)


async def proof(visit: Visit) -> Response:
    """Send an entry's proof; with its text, where the address asks for it."""
    site, index = visit.house.site, _index(visit)
    await visit.run(_entry, visit.house, index)
    with_text = visit.query("text") == "1"
    if with_text:
        await _note(visit, index)
    vault = site.secrets.vault if with_text else None
    made = await visit.run(prove, site.database, index, site.log.verifier, vault=vault)
    headers = {"content-disposition": f'attachment; filename="entry-{index}.proof.json"'}
    return Response(made.model_dump_json(indent=2), media_type="application/json", headers=headers)


async def _page(visit: Visit, verification: Verification | None) -> Response:
    house, typed = visit.house, {name: visit.query(name) for name in FIELDS}
    before = visit.query("before")
    names = {person.name: person.id for person in await visit.run(house.site.people.everybody)}
    query = Query(
        kind=typed["kind"],
        id=typed["id"],
        actor=names.get(typed["actor"], typed["actor"]),
        since=parse_moment(typed["since"]),
        until=parse_moment(typed["until"]),
        before=min(int(before[:20]), LARGEST) if before.isascii() and before.isdigit() else None,
    )
    found = await visit.run(search, house.site.database, query)
    values = {
        "title": "Audit",
        "typed": typed,
        "found": found,
        "older": None if found.older is None else urlencode({**typed, "before": found.older}),
        "verification": verification,
        "verifier": str(house.log.verifier),
    }
    return await visit.page("audit.html.j2", values)


def _verify(house: House) -> Verification:
    witness = house.site.folder / "witness.txt"
    kept = read_witness(witness) if witness.exists() else []
    return verify(house.site.database, house.log.verifier, vault=house.site.secrets.vault, kept=kept)


def _index(visit: Visit) -> int:
    """Return the entry's number. Raises RequestError where it is none, or longer than any log."""
    given: str = visit.request.path_params["index"]
    if not (given.isascii() and given.isdigit() and len(given) <= 18):
        raise RequestError("There is no such entry.", status=404, code="not_found")
    return int(given)


def _entry(house: House, index: int) -> Kept:
    """Return an entry. Raises RequestError where there is none."""
    found = None
    if index < LARGEST:
        found = next(house.log.read(start=index, stop=index + 1), None)
    if found is None:
        raise RequestError(f"There is no entry {index}.", status=404, code="not_found")
    return found


async def _note(visit: Visit, index: int) -> None:
    """Log that somebody reads a text. Raises AuditError, StoreError."""
    await visit.house.log.append(Entry(kind="text-read", actor=visit.principal.actor, facts={"entry": index}))


def _texts(found: Kept) -> list[tuple[str, str]]:
    """Return a payload's texts, each with its name."""
    texts = []
    for name, value in (found.payload or {}).items():
        if name == "messages" and isinstance(value, list):
            texts += [(str(message["role"]), str(message["content"])) for message in value]
        else:
            texts.append((name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)))
    return texts
