"""Requests to an OpenAI-compatible server, for guards that ask one.

Whatever is not a proper answer is the guard's error. Messages name status and shape of an answer, never its content,
which may repeat the text that was sent. The key is read when a request is made, and neither kept nor written anywhere.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
from pydantic import Field, field_validator, model_validator

from safetylayers.errors import GuardError
from safetylayers.oversee.guards.settings import GuardSettings


class EndpointSettings(GuardSettings):
    """Where a server is, and with which key."""

    url: str
    """Up to and with the version, such as http://127.0.0.1:8000/v1."""
    model: str = Field(min_length=1)
    """As the server calls it."""
    key_file: Path | None = None
    """A file that holds the key, and nothing else."""
    key_variable: str | None = None
    """Environment variable that holds the key."""
    seconds: float = Field(default=10.0, gt=0)
    """So long a request may take. The policy's own limit for the guard holds as well."""

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("no address: give one like http://127.0.0.1:8000/v1")
        if parts.username or parts.password or parts.query:
            raise ValueError("an address must not hold a key: name a file or a variable")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.key_file is not None and self.key_variable is not None:
            raise ValueError("give key_file or key_variable, not both")
        return self


class Endpoint:
    """A server that a guard asks."""

    def __init__(self, guard: str, settings: EndpointSettings) -> None:
        self._guard, self._settings = guard, settings
        self._client: httpx.AsyncClient | None = None

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        """Send JSON, return the answer's JSON. Raises GuardError."""
        try:
            async with asyncio.timeout(self._settings.seconds):
                response = await self._connected().post(
                    f"{self._settings.url}/{path}", json=body, headers=self._headers()
                )
        except (httpx.HTTPError, TimeoutError) as error:
            raise self.error(f"cannot be asked ({type(error).__name__})") from error
        if response.status_code != 200:
            raise self.error(f"answers with status {response.status_code}")
        try:
            return response.json()
        except ValueError as error:
            raise self.error("answers with something that is not JSON") from error

    def error(self, what: str) -> GuardError:
        """Make the error that tells what the server did."""
        return GuardError(
            f"{self._guard}: its server {what}.",
            mend="See that the server runs, serves this model, and takes this key.",
        )

    def _connected(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = httpx.AsyncClient(timeout=self._settings.seconds, follow_redirects=False)
        return self._client

    def _headers(self) -> dict[str, str]:
        key = self._key()
        return {"Authorization": f"Bearer {key}"} if key is not None else {}

    def _key(self) -> str | None:
        file, variable = self._settings.key_file, self._settings.key_variable
        if file is None and variable is None:
            return None
        try:
            key = (file.read_text("utf-8") if file else os.environ.get(variable or "", "")).strip()
        except (OSError, ValueError) as error:
            raise GuardError(f"{self._guard}: its key cannot be read.", mend=f"See that {file} is readable.") from error
        if not key or not (key.isascii() and key.isprintable()):
            raise GuardError(f"{self._guard}: there is no key in {file or variable}.", mend="Put the key there alone.")
        return key

    async def aclose(self) -> None:
        """Close all connections."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.aclose()
