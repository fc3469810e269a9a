"""Whom the server believes about where a request comes from."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from fastapi import FastAPI
from starlette.requests import Request

from safetylayers.errors import UsageError
from safetylayers.oversee.gateway.server import settings


def seen(proxies: list[str], sender: str, headers: dict[str, str]) -> list[str]:
    """Return the address and scheme that an application sees behind the server's settings."""
    app = FastAPI()

    @app.get("/")
    async def tell(request: Request) -> list[str]:
        assert request.client is not None
        return [request.client.host, request.url.scheme]

    async def ask() -> httpx.Response:
        config = settings(app, proxies)
        config.load()
        transport = httpx.ASGITransport(app=config.loaded_app, client=(sender, 5000))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            return await client.get("/", headers=headers)

    found: list[str] = asyncio.run(ask()).json()
    return found


FORWARDED = {"x-forwarded-for": "198.51.100.7, 203.0.113.9", "x-forwarded-proto": "https"}


@pytest.mark.parametrize("sender", ["127.0.0.1", "10.0.0.2"])
def test_nobody_says_where_a_request_comes_from_unless_they_were_named(
    sender: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    assert seen([], sender, FORWARDED) == [sender, "http"]
    assert seen(["10.9.0.0/16"], sender, FORWARDED) == [sender, "http"]


@pytest.mark.parametrize("sender", ["10.0.0.2", "::ffff:10.0.0.2"])
@pytest.mark.parametrize("named", ["10.0.0.2", "10.0.0.0/24"])
def test_a_proxy_that_was_named_is_believed_about_the_last_step_alone(named: str, sender: str) -> None:
    assert seen([named], sender, FORWARDED) == ["203.0.113.9", "https"]


@pytest.mark.parametrize("named", ["*", "proxy.example.org", "10.0.0.1/8", ""])
def test_what_is_no_address_is_refused(named: str) -> None:
    with pytest.raises(UsageError, match="--proxy"):
        settings(FastAPI(), [named])
