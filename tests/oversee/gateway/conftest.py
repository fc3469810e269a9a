"""A whole gateway in front of a real server, over real HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from oversee.servers import Upstream, running
from safetylayers.oversee.audit.reading import Kept
from safetylayers.oversee.engine.upstream import UpstreamEngine
from safetylayers.oversee.gateway.app import create_app
from safetylayers.oversee.gateway.opening import open_house
from safetylayers.oversee.gateway.site import Site
from safetylayers.oversee.policy.policy import Policy, parse_policy

PLAIN = "version: 1\nname: plain\n"


@dataclass
class Gateway:
    """A running gateway and what a test needs of it."""

    address: str
    key: str
    site: Site
    upstream: Upstream

    def client(self, *, key: str | None = None) -> httpx.Client:
        headers = {"authorization": f"Bearer {key or self.key}"}
        return httpx.Client(base_url=self.address, headers=headers, timeout=20)

    def chat(self, **fields: Any) -> httpx.Response:
        body = {"model": "mock", "messages": [{"role": "user", "content": "What is the capital of France?"}], **fields}
        with self.client() as client:
            return client.post("/v1/chat/completions", json=body)

    def entries(self, *kinds: str) -> list[Kept]:
        return list(self.site.log.read(kinds=kinds))


Starter = Callable[..., AbstractContextManager[Gateway]]


@pytest.fixture
def start(tmp_path: Path) -> Starter:
    """Start gateways: with a policy, in front of a server that says what it is told."""

    @contextmanager
    def begin(policy: str | Policy = PLAIN, *, lease: float = 2.0, folder: str = "data") -> Iterator[Gateway]:
        upstream = Upstream()
        first = parse_policy(policy) if isinstance(policy, str) else policy
        site = Site.open(tmp_path / folder)
        path = site.first_key()
        key = path.read_text().strip() if path else (tmp_path / folder / "caller.key").read_text().strip()
        with running(upstream.app) as behind:
            engine = UpstreamEngine(f"{behind}/v1")
            app = create_app(lambda: open_house(site, engine, replica="one", first_policy=first, lease_seconds=lease))
            with running(app) as address:
                yield Gateway(address, key, site, upstream)
        site.close()

    return begin
