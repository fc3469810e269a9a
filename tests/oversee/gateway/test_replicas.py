"""Several gateways over one PostgreSQL database: one deployment, whichever of them somebody speaks to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from oversee.gateway.conftest import PLAIN, Gateway
from oversee.gateway.test_failing_closed import stream, text_of
from oversee.gateway.test_people import HOLDING, desk, first_waiting, in_background, somebody
from oversee.modes.proxy import Proxy, behind_proxy
from oversee.servers import Upstream, running
from safetylayers.oversee.audit import read_witness, verify
from safetylayers.oversee.engine.upstream import UpstreamEngine
from safetylayers.oversee.gateway.app import create_app
from safetylayers.oversee.gateway.opening import open_house
from safetylayers.oversee.gateway.site import Site
from safetylayers.oversee.identity.principal import MACHINE
from safetylayers.oversee.modes.change import approve_mode, propose_mode
from safetylayers.oversee.modes.mode import Mode
from safetylayers.oversee.modes.stop import stop_everything
from safetylayers.oversee.policy.policy import Policy, parse_policy
from safetylayers.oversee.review.held import State
from safetylayers.oversee.store import patience

LEASE_S = 1.0
"""A lease of tests that watch it end."""
LONG_LEASE_S = 30.0
"""A lease that no busy machine lets run out."""


@contextmanager
def replica(name: str, store: str, folder: Path, policy: Policy, lease_s: float) -> Iterator[Gateway]:
    """Run a gateway on a server of its own, in front of a model of its own."""
    site, upstream = Site.open(folder, store=store), Upstream()
    site.first_key()
    with running(upstream.app) as behind:
        engine = UpstreamEngine(f"{behind}/v1")
        app = create_app(lambda: open_house(site, engine, replica=name, first_policy=policy, lease_seconds=lease_s))
        with running(app) as address:
            yield Gateway(address, (folder / "caller.key").read_text().strip(), site, upstream)
    site.close()


Starter = Callable[..., list[Gateway]]


@pytest.fixture
def network(postgresql_url: str) -> Iterator[tuple[str, Proxy]]:
    """Another address of the same database, and the network on the way there."""
    with behind_proxy(postgresql_url) as (database, proxy):
        yield database.url.render_as_string(), proxy


@pytest.fixture
def start_all(tmp_path: Path, network: tuple[str, Proxy]) -> Iterator[Starter]:
    """Start a gateway for each address of the database, all with the same keys; they end before the network does."""
    with ExitStack() as stack:

        def begin(*stores: str, policy: str = PLAIN, lease_s: float = LONG_LEASE_S) -> list[Gateway]:
            first = parse_policy(policy)
            return [
                stack.enter_context(replica(f"replica-{number}", store, tmp_path, first, lease_s))
                for number, store in enumerate(stores, 1)
            ]

        yield begin
        network[1].mend()  # nothing that ends has to wait for it


def speak_slowly(gateway: Gateway) -> None:
    gateway.upstream.text, gateway.upstream.pause = "word " * 500, 0.02


def streaming(gateway: Gateway) -> tuple[threading.Thread, list[Any]]:
    """Read a stream in the background."""
    events: list[Any] = []
    reader = threading.Thread(target=lambda: events.extend(stream(gateway)))
    reader.start()
    return reader, events


def is_ready(gateway: Gateway) -> bool:
    return httpx.get(f"{gateway.address}/ready").is_success


def serves(gateway: Gateway) -> bool:
    return gateway.chat().status_code == 200


def redacts(gateway: Gateway) -> bool:
    return "[removed]" in gateway.chat().text


def eventually(holds: Callable[[], bool], *, within: float) -> None:
    until = time.monotonic() + within
    while not holds():
        assert time.monotonic() < until, "it does not come about"
        time.sleep(0.05)


def test_a_stop_ordered_at_one_ends_all_streams_and_two_people_at_another_resume(
    start_all: Starter, postgresql_url: str
) -> None:
    gateways = start_all(postgresql_url, postgresql_url, postgresql_url, lease_s=LEASE_S)
    one, two, _ = gateways
    for gateway in gateways:
        speak_slowly(gateway)
    readers = [streaming(gateway) for gateway in gateways]
    time.sleep(0.7)
    began = time.monotonic()
    report = stop_everything(one.site.database, one.site.log, by=MACHINE, reason="a test")
    for reader, events in readers:
        reader.join(5)
        assert text_of(events).startswith("word word")
        assert events[-1]["error"]["code"] == "stopped"
        assert "a test" in events[-1]["error"]["message"]
    assert time.monotonic() - began < 2 * LEASE_S
    assert {stop.name: stop.how for stop in report.replicas} == {
        f"replica-{number}": "confirmed" for number in (1, 2, 3)
    }
    assert [gateway.chat().json()["error"]["code"] for gateway in gateways] == ["stopped"] * 3

    ada, bob = somebody(two, "ada", "operator"), somebody(two, "bob", "operator")
    proposal = propose_mode(two.site.proposals, two.site.database, Mode.RUN, by=ada, reason="the test goes on")
    approve_mode(two.site.proposals, two.site.log, proposal.id, by=bob)
    for gateway in gateways:
        gateway.upstream.pause = 0.0
        eventually(partial(serves, gateway), within=2)


def test_a_reply_held_at_one_replica_is_released_by_a_reviewer_at_another(
    start_all: Starter, postgresql_url: str
) -> None:
    one, two = start_all(postgresql_url, postgresql_url, policy=HOLDING)
    one.upstream.text = "Your code is K-1234."
    reviewer = somebody(two, "rita", "reviewer")
    caller, found = in_background(one.chat)
    held = first_waiting(two)
    assert desk(two).read(held.id, by=reviewer).reply == "Your code is K-1234."
    desk(two).decide(held.id, State.RELEASED, by=reviewer)
    caller.join(5)
    assert found[0].json()["choices"][0]["message"]["content"] == "Your code is K-1234."


def test_a_policy_of_two_people_at_two_replicas_is_in_force_at_both(start_all: Starter, postgresql_url: str) -> None:
    one, two = start_all(postgresql_url, postgresql_url)
    for gateway in (one, two):
        gateway.upstream.text = "Your code is K-1234."
    ada, bob = somebody(one, "ada", "admin"), somebody(two, "bob", "admin")
    policy = parse_policy(HOLDING.replace("action: hold", "action: redact"))
    proposal = one.site.shelf.propose(one.site.proposals, policy, reason="codes leak", by=ada)
    two.site.proposals.approve(proposal.id, two.site.shelf.apply, by=bob)
    for gateway in (one, two):
        eventually(partial(redacts, gateway), within=5)


@pytest.mark.parametrize("how", ["freeze", "cut"])
def test_a_replica_without_its_database_stops_by_itself_and_serves_again_afterwards(
    start_all: Starter, postgresql_url: str, network: tuple[str, Proxy], how: str
) -> None:
    through, proxy = network
    whole, lonely = start_all(postgresql_url, through, lease_s=LEASE_S)
    speak_slowly(lonely)
    reader, events = streaming(lonely)
    time.sleep(0.7)
    getattr(proxy, how)()
    eventually(lambda: not is_ready(lonely), within=LEASE_S + 0.2)
    made = lonely.upstream.sent
    reader.join(5)
    assert 10 < text_of(events).count("word") <= made + 1
    assert events[-1]["error"]["type"] == "service_unavailable"
    answer = lonely.chat()
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "stopped"
    assert "cannot reach the store" in answer.json()["error"]["message"]
    assert whole.chat().status_code == 200
    lonely.upstream.pause = 0.0
    proxy.mend()
    eventually(partial(serves, lonely), within=5)


def test_two_replicas_write_one_log_without_gaps(start_all: Starter, postgresql_url: str, tmp_path: Path) -> None:
    one, two = gateways = start_all(postgresql_url, postgresql_url)
    callers = [in_background(gateway.chat)[0] for _ in range(20) for gateway in gateways]
    for caller in callers:
        caller.join(20)
    entries = list(one.site.log.read())
    assert [entry.index for entry in entries] == list(range(len(entries)))
    released = [entry.actor for entry in entries if entry.kind == "release"]
    assert sorted(released) == ["replica:replica-1"] * 20 + ["replica:replica-2"] * 20
    assert sum(before != after for before, after in pairwise(released)) > 1
    kept = read_witness(tmp_path / "witness.txt")
    found = verify(two.site.database, two.site.log.verifier, vault=two.site.secrets.vault, kept=kept)
    assert found.ok, found.problems
    assert found.size == len(entries)


def test_a_replica_gives_up_connections_that_have_gone_silent(
    start_all: Starter, postgresql_url: str, network: tuple[str, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "ANSWER_S", 1.0)
    through, proxy = network
    whole, lonely = start_all(postgresql_url, through, lease_s=LEASE_S)
    lonely.upstream.text = "Your code is K-1234."
    assert lonely.chat().status_code == 200
    proxy.strand()
    ada, bob = somebody(whole, "ada", "admin"), somebody(whole, "bob", "admin")
    policy = parse_policy(HOLDING.replace("action: hold", "action: redact"))
    proposal = whole.site.shelf.propose(whole.site.proposals, policy, reason="codes leak", by=ada)
    whole.site.proposals.approve(proposal.id, whole.site.shelf.apply, by=bob)
    eventually(lambda: "[removed]" in lonely.chat().text, within=10)


def test_replicas_that_start_at_once_share_a_first_key_and_a_first_policy(postgresql_url: str, tmp_path: Path) -> None:
    policy = parse_policy(PLAIN)
    sites = [Site.open(tmp_path, store=postgresql_url) for _ in range(3)]
    together = threading.Barrier(3)

    def begin(site: Site) -> None:
        together.wait()
        site.first_key()
        site.shelf.open(policy)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(begin, sites))
    assert sites[0].keys.authenticate((tmp_path / "caller.key").read_text().strip())
    assert [people.name for people in sites[0].people.everybody()] == ["local-callers"]
    for site in sites:
        site.close()
