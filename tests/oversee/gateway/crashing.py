"""A gateway that is killed under load, and what has to hold of its log all the same.

Clients keep every byte that reached them, whole or not. What they saw is compared with the log, request by request.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from safetylayers.oversee.audit import read_witness, verify
from safetylayers.oversee.gateway.site import Site

SERVE = "from safetylayers.cli import main; main()"
SERVING = re.compile(r"Serving on http://127\.0\.0\.1:(\d+)/v1;")
REQUEST = re.compile(rb"x-request-id: (\S+)")
LENGTH = re.compile(rb"content-length: (\d+)")
CONTENT = re.compile(rb'"content":"([^"]*)')
"""A piece of text, also one whose end did not arrive. What the upstream says has no quotation marks in it."""
PATIENCE_S = 60.0
"""How long a start, or the clients' ends after a kill, may take."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a client saw of one request."""

    request: str | None
    """Its name; None where nothing arrived."""
    pieces: tuple[str, ...]
    """The text that arrived."""
    complete: bool
    """Whether the reply arrived to its end, so that the client takes it for served."""
    failed: bool
    """Whether the client was told of an error."""

    @classmethod
    def of(cls, received: bytes) -> Seen:
        """Read an answer as far as it has arrived."""
        head, _, body = received.partition(b"\r\n\r\n")
        request, length = REQUEST.search(head), LENGTH.search(head)
        complete = len(body) == int(length[1]) if length else b"data: [DONE]" in body
        failed = bool(head) and (not head.startswith(b"HTTP/1.1 200") or b'"error":' in body)
        pieces = tuple(found.decode() for found in CONTENT.findall(body) if found)
        return cls(request[1].decode() if request else None, pieces, complete and not failed, failed)


@dataclass(slots=True)
class Logged:
    """What the log says of one request."""

    asked: bool = False
    released: str = ""
    """The text that may have left, from the entries' payloads."""
    ended: bool = False
    """Whether the last part may have left."""


@dataclass(slots=True)
class Record:
    """A run so far, and what did not hold in it."""

    kills: int = 0
    in_start: int = 0
    """Of them, before the gateway served."""
    entries: int = 0
    seen: list[Seen] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        pieces = sum(len(seen.pieces) for seen in self.seen)
        complete = sum(seen.complete for seen in self.seen)
        failed = sum(seen.failed for seen in self.seen)
        return (
            f"{self.kills} kills ({self.in_start} of them while it started), {len(self.seen)} requests "
            f"({complete} complete, {failed} refused), {pieces} pieces received, {self.entries} entries, "
            f"missing {len(self.wrong)}"
        )


class Process:
    """A gateway in a process of its own, in front of a server."""

    def __init__(self, upstream: str, data: Path) -> None:
        """Start it."""
        command = [sys.executable, "-c", SERVE, "serve", "--upstream", f"{upstream}/v1", "--data", str(data)]
        self._output = data.with_name("gateway.out")
        with self._output.open("w") as output:
            self._process = subprocess.Popen([*command, "--port", "0"], stdout=output, stderr=output)

    def port(self) -> int:
        """Wait until it serves."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until and self._process.poll() is None:
            if found := SERVING.search(self._output.read_text()):
                return int(found[1])
            time.sleep(0.02)
        raise RuntimeError(f"the gateway does not start: {self._output.read_text()[-2000:]}")

    def kill(self) -> None:
        """End it as a power cut of this process would: nothing in it is asked."""
        self._process.kill()
        self._process.wait()


class Caller(asyncio.Protocol):
    """One request on a connection of its own. Every byte that arrives is kept, however the connection ends."""

    def __init__(self, request: bytes) -> None:
        """Take what is sent."""
        self._request = request
        self.received = bytearray()
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Keep it."""
        self.received += data

    def connection_lost(self, _error: Exception | None) -> None:
        """Tell whoever waits."""
        self.gone.set_result(None)


def request_of(key: str, *, stream: bool) -> bytes:
    """Return a request as it is sent."""
    body = {"model": "mock", "messages": [{"role": "user", "content": "Go on."}], "stream": stream}
    sent = json.dumps(body).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        f"authorization: Bearer {key}\r\ncontent-type: application/json\r\ncontent-length: {len(sent)}\r\n\r\n"
    )
    return head.encode() + sent


async def ask_until_gone(port: int, request: bytes) -> list[Seen]:
    """Ask again and again, until nobody listens any more."""
    seen = []
    while True:
        try:
            _, caller = await asyncio.get_running_loop().create_connection(lambda: Caller(request), "127.0.0.1", port)
        except OSError:
            return seen
        await caller.gone
        seen.append(Seen.of(bytes(caller.received)))


async def under_load(port: int, key: str, *, clients: int, kill: Callable[[], None], after: float) -> list[Seen]:
    """Have clients ask, every second one for a stream; kill the gateway after so many seconds."""
    requests = [request_of(key, stream=place % 2 == 0) for place in range(clients)]
    async with asyncio.timeout(after + PATIENCE_S):
        asking = [asyncio.create_task(ask_until_gone(port, request)) for request in requests]
        await asyncio.sleep(after)
        await asyncio.to_thread(kill)
        return [seen for found in await asyncio.gather(*asking) for seen in found]


def crash(upstream: str, data: Path, *, kills: int, clients: int, seed: int) -> Iterator[Record]:
    """Start a gateway, kill it at some moment and look at what is left, so many times; yield the record after each.

    One kill in five comes while the gateway starts.

    Args:
        upstream: address of the server behind it.
        data: its folder, which does not exist yet.
        kills: how many.
        clients: how many ask at once.
        seed: what the moments come from.
    """
    moments, record, took = random.Random(seed), Record(), 0.0
    for number in range(kills):
        began = time.monotonic()
        process = Process(upstream, data)
        with _ended(process):
            if number % 5 == 4:
                time.sleep(moments.uniform(0, took))
                record.in_start += 1
            else:
                port = process.port()
                took = time.monotonic() - began
                key = (data / "caller.key").read_text().strip()
                load = under_load(port, key, clients=clients, kill=process.kill, after=moments.uniform(0.1, 1.0))
                record.seen += asyncio.run(load)
        record.kills += 1
        record.entries, record.wrong = check(data, record.seen)
        yield record


@contextmanager
def _ended(process: Process) -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()


def check(data: Path, seen: list[Seen]) -> tuple[int, list[str]]:
    """Return how many entries the log of a dead gateway has, and what does not hold of it."""
    site = Site.existing(data)
    try:
        notes = read_witness(data / "witness.txt")
        found = verify(site.database, site.log.verifier, vault=site.secrets.vault, kept=notes)
        wrong = [problem.text for problem in found.problems] + ([] if notes else ["There is no checkpoint."])
        logged = _logged(site)
        return found.size, wrong + [text for one in seen for text in wrong_with(one, logged)]
    finally:
        site.close()


def _logged(site: Site) -> dict[str, Logged]:
    found: dict[str, Logged] = defaultdict(Logged)
    for entry in site.log.read(kinds=("request", "release")):
        one = found[str(entry.facts["request"])]
        if entry.kind == "request":
            one.asked = True
            continue
        text = str(entry.payload["text"]) if entry.payload else ""
        if sha256(text.encode()).hexdigest() == entry.facts["sha256"]:
            one.released += text
        one.ended = one.ended or entry.facts["finish"] is not None
    return found


def wrong_with(seen: Seen, logged: dict[str, Logged]) -> Iterator[str]:
    """Yield what a client saw and the log does not tell."""
    text, kept = "".join(seen.pieces), logged.get(seen.request or "", Logged())
    if text and not kept.asked:
        yield f"{seen.request}: text was received, and no request is logged."
    if not kept.released.startswith(text):
        yield f"{seen.request}: received {len(text)} characters, of which {len(kept.released)} are logged as released."
    if seen.complete and not (kept.asked and kept.ended and kept.released == text):
        yield f"{seen.request}: received complete, and not so logged."
