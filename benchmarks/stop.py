"""How long a stop takes, until the last token has left.

python benchmarks/stop.py [--stops 20] [--lease 2] [--clients 8]

Three replicas over PostgreSQL, each with streams running; one of them is cut off from the database just before each
stop. Then one replica over SQLite. A stop is proved by the tokens that clients receive, not by what the gateway says.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import httpx

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from oversee.modes.proxy import Proxy
from oversee.postgresql import Server, postgresql
from oversee.servers import Upstream, running
from safetylayers.oversee.gateway.site import Site
from safetylayers.oversee.identity.principal import MACHINE, Principal
from safetylayers.oversee.modes.change import approve_mode, propose_mode
from safetylayers.oversee.modes.mode import Mode
from safetylayers.oversee.modes.stop import stop_everything

BODY = {"model": "mock", "messages": [{"role": "user", "content": "Go on."}], "stream": True, "max_tokens": 2000}
PASSWORD = "a long enough password"  # noqa: S105 - of people who live as long as the benchmark
AFTER_S = 2.0
"""How long to listen for tokens after everything has ended."""


@dataclass
class Replica:
    """A running gateway, and when it last sent a token."""

    name: str
    address: str
    last: float = 0.0
    tokens: int = 0
    errors: list[str] = field(default_factory=list)


@contextmanager
def replica(name: str, upstream: str, data: Path, lease: float, store: str | None) -> Iterator[Replica]:
    """Run a gateway in a process of its own."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    program = str(Path(sys.executable).with_name("safetylayers"))
    command = [program, "serve", "--upstream", f"{upstream}/v1", "--data", str(data), "--port", str(port)]
    command += ["--replica", name, "--lease", str(lease), *(["--store", store] if store else [])]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            address = f"http://127.0.0.1:{port}"
            wait_until_ready(address)
            yield Replica(name, address)
        finally:
            process.terminate()


def wait_until_ready(address: str) -> None:
    """Wait until a gateway serves."""
    for _ in range(600):
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{address}/ready").is_success:
                return
        time.sleep(0.05)
    sys.exit(f"{address}: is not ready")


async def read_stream(session: aiohttp.ClientSession, target: Replica, key: str) -> None:
    """Read one stream to its end, and note when tokens come."""
    headers = {"authorization": f"Bearer {key}"}
    async with session.post(f"{target.address}/v1/chat/completions", json=BODY, headers=headers) as answer:
        async for line in answer.content:
            if line.startswith(b"data:") and b'"content":"' in line:
                target.last = time.monotonic()
                target.tokens += 1
            elif b'"error"' in line:
                target.errors.append(line.decode())


async def one_stop(site: Site, replicas: list[Replica], key: str, clients: int, proxy: Proxy | None) -> float:
    """Start streams, stop everything, and return the seconds from the call to the last token."""
    for target in replicas:
        target.last, target.tokens, target.errors = 0.0, 0, []
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        streams = [asyncio.create_task(read_stream(session, to, key)) for to in replicas for _ in range(clients)]
        await asyncio.sleep(1.5)
        if not all(target.tokens for target in replicas):
            sys.exit("streams do not run")
        if proxy:
            proxy.freeze()
        began = time.monotonic()
        await asyncio.to_thread(stop_everything, site.database, site.log, by=MACHINE, reason="benchmark")
        await asyncio.gather(*streams)
        ended = time.monotonic()
        if any(len(target.errors) != clients for target in replicas):
            sys.exit(f"clients were not told: {[len(target.errors) for target in replicas]}")
        await asyncio.sleep(AFTER_S if proxy else 0.2)
        if any(target.last > ended for target in replicas):
            sys.exit("tokens came after the end")
    return max(target.last for target in replicas) - began


def resume(site: Site, replicas: list[Replica], two: tuple[Principal, Principal], proxy: Proxy | None) -> None:
    """Let two people resume, and wait until all serve again."""
    if proxy:
        proxy.mend()
    proposal = propose_mode(site.proposals, site.database, Mode.RUN, by=two[0], reason="benchmark")
    approve_mode(site.proposals, site.log, proposal.id, by=two[1])
    for target in replicas:
        wait_until_ready(target.address)


def two_people(site: Site) -> tuple[Principal, Principal]:
    """Make two operators."""
    made = [site.people.create(name, PASSWORD, ["operator"], by=MACHINE) for name in ("first", "second")]
    first, second = [Principal(id=f"s-{p.name}", person=p.id, name=p.name, roles=p.roles) for p in made]
    return first, second


def behind(server: Server) -> tuple[str, Proxy, str]:
    """Return a database's address, a proxy before it, and its address through that."""
    name = server.new()
    proxy = Proxy(f"{server.folder}/.s.PGSQL.5432")
    return server.url(name), proxy, f"postgresql://{name}@127.0.0.1:{proxy.port}/postgres?sslmode=disable"


def several(upstream: str, options: argparse.Namespace) -> list[float]:
    """Measure three replicas over PostgreSQL, one of them cut off."""
    with postgresql() as server, tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        url, proxy, through = behind(server)
        stack.callback(proxy.close)
        data = Path(folder)
        site = Site.open(data, store=url)
        stack.callback(site.close)
        site.first_key()
        key, two = (data / "caller.key").read_text().strip(), two_people(site)
        stores = [url, url, through]
        replicas = [
            stack.enter_context(replica(f"replica {place}", upstream, data, options.lease, store))
            for place, store in enumerate(stores, 1)
        ]
        return repeat(site, replicas, key, two, proxy, options)


def alone(upstream: str, options: argparse.Namespace) -> list[float]:
    """Measure one replica over SQLite."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        data = Path(folder)
        site = Site.open(data)
        stack.callback(site.close)
        site.first_key()
        key, two = (data / "caller.key").read_text().strip(), two_people(site)
        only = [stack.enter_context(replica("alone", upstream, data, options.lease, None))]
        return repeat(site, only, key, two, None, options)


def repeat(
    site: Site,
    replicas: list[Replica],
    key: str,
    two: tuple[Principal, Principal],
    proxy: Proxy | None,
    options: argparse.Namespace,
) -> list[float]:
    """Stop and resume so many times."""
    found = []
    for _ in range(options.stops):
        found.append(asyncio.run(one_stop(site, replicas, key, options.clients, proxy)))
        print(f"  {1000 * found[-1]:7.0f} ms", flush=True)
        resume(site, replicas, two, proxy)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stops", type=int, default=20)
    parser.add_argument("--lease", type=float, default=2.0)
    parser.add_argument("--clients", type=int, default=8, help="streams on each replica")
    options = parser.parse_args()
    upstream = Upstream()
    upstream.text, upstream.pause = " ".join(f"w{number}" for number in range(20_000)), 0.02
    with running(upstream.app) as address:
        for name, measure in (("three replicas, one cut off", several), ("one replica", alone)):
            print(name)
            found = measure(address, options)
            worst, middle = max(found), statistics.median(found)
            print(
                f"{name}: {len(found)} stops, last token after {1000 * middle:.0f} ms (median), "
                f"{1000 * worst:.0f} ms (worst); lease {1000 * options.lease:.0f} ms"
            )


if __name__ == "__main__":
    main()
