"""A server upstream that speaks the OpenAI API: vLLM, llama.cpp, `transformers serve`, or another.

Its hidden states are out of reach, so nothing watches inside the model: guards and people are all there is.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from safetylayers.errors import BusyError, EngineError, PromptError
from safetylayers.oversee.engine.base import Canary
from safetylayers.oversee.words import Ask, Finish, Piece, Token

CONNECT_S = 5.0
CONNECTIONS = 256
LONGEST_LINE = 1_000_000
FINISHES: dict[str, Finish] = {"stop": "stop", "length": "length", "eos": "stop", "eos_token": "stop"}


class UpstreamEngine:
    """Replies from another server."""

    watched_by: str | None = None
    steers = False

    def __init__(self, url: str, *, key: str | None = None, silence_seconds: float = 120.0) -> None:
        """Speak to the server at `url`, its path up to and including /v1.

        Args:
            url: http or https.
            key: sent as bearer token.
            silence_seconds: how long the server may say nothing before a reply counts as broken off.

        Raises:
            EngineError: the address makes no sense.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise EngineError(f"{url}: not an address.", mend="Write http://HOST:PORT/v1.")
        self._url = url.rstrip("/")
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=silence_seconds)
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: set[_Haltable] = set()
        self._models: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """What the server named when it was first asked."""
        return self._models

    async def open(self) -> None:
        """Connect, and ask for the server's models. Raises EngineError."""
        self._loop = asyncio.get_running_loop()
        self._session = aiohttp.ClientSession(
            headers=self._headers,
            timeout=self._timeout,
            connector=aiohttp.TCPConnector(limit=CONNECTIONS),
            read_bufsize=LONGEST_LINE,
        )
        try:
            with _told():
                async with self._session.get(f"{self._url}/models") as answer:
                    _check(answer.status)
                    self._models = _model_names(await answer.json(content_type=None))
        except BaseException:
            await self._session.close()
            raise

    async def close(self) -> None:
        """End everything that runs, and disconnect."""
        self.halt()
        if self._session:
            await self._session.close()

    def refuse(self, ask_id: str) -> None:
        """There is no gate to open. Raises EngineError."""
        raise EngineError(f"{ask_id}: a server upstream cannot be steered.", mend="Block instead.")

    def halt(self) -> int:
        """Break off every running reply; return how many."""
        running = list(self._running)
        if self._loop and not self._loop.is_closed():
            for reply in running:
                self._loop.call_soon_threadsafe(reply.halt)
        return len(running)

    async def canary(self) -> Canary:
        """There is nothing inside to ask; whether the server answers is all that can be said."""
        with _told():
            async with self._http.get(f"{self._url}/models") as answer:
                return Canary(answer.ok, f"nothing watches inside; the server answered {answer.status}")

    @property
    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise EngineError("The engine is not open.")
        return self._session

    async def reply(self, ask: Ask) -> AsyncGenerator[Piece]:
        """Make one reply. Raises BusyError, EngineError."""
        if ask.sampling.max_tokens == 0 or (ask.echo and ask.sampling.logprobs is not None):
            raise PromptError("A server upstream does not score prompts.", mend="Serve the model here for that.")
        haltable = _Haltable()
        self._running.add(haltable)
        pieces = self._streamed(ask) if ask.stream else self._whole(ask)
        try:
            while (piece := await haltable.next(pieces)) is not None:
                yield piece
        finally:
            self._running.discard(haltable)
            await pieces.aclose()

    async def _whole(self, ask: Ask) -> AsyncGenerator[Piece]:
        with _told():
            async with self._http.post(self._path(ask), json=_body(ask), allow_redirects=False) as answer:
                _check(answer.status)
                text = await answer.read()
        with _understood():
            found = json.loads(text)
            choice, usage = found["choices"][0], found.get("usage") or {}
            reply = _text(choice if ask.prompt is not None else choice["message"], ask)
            first = Piece(prompt_tokens=usage.get("prompt_tokens"))
            last = Piece(
                text=reply,
                tokens=_tokens(choice),
                finish=_finish(choice),
                completion_tokens=usage.get("completion_tokens"),
            )
        yield first
        yield last

    async def _streamed(self, ask: Ask) -> AsyncGenerator[Piece]:
        yield Piece()
        finish: Finish | None = None
        usage: dict[str, Any] = {}
        with _told():
            async with self._http.post(self._path(ask), json=_body(ask), allow_redirects=False) as answer:
                _check(answer.status)
                async for found in _events(answer):
                    with _understood():
                        usage = found.get("usage") or usage
                        choice: dict[str, Any] = next(iter(found.get("choices") or ()), {})
                        finish = _finish(choice) if choice.get("finish_reason") else finish
                        text = _text(choice if ask.prompt is not None else choice.get("delta") or {}, ask)
                        tokens = _tokens(choice)
                    if text:
                        yield Piece(text=text, tokens=tokens)
        if finish is None:
            raise EngineError("The server upstream broke off in the middle of the reply.", mend="Ask again.")
        yield Piece(
            prompt_tokens=usage.get("prompt_tokens"), finish=finish, completion_tokens=usage.get("completion_tokens")
        )

    def _path(self, ask: Ask) -> str:
        return f"{self._url}/{'completions' if ask.prompt is not None else 'chat/completions'}"


class _Haltable:
    """One reply that can be ended while it is waited for."""

    def __init__(self) -> None:
        self._halted = False
        self._waiting: asyncio.Timeout | None = None

    def halt(self) -> None:
        """End the reply; call it in the reply's own event loop."""
        self._halted = True
        if self._waiting is not None:
            with suppress(RuntimeError):  # it is ending by itself at this moment
                self._waiting.reschedule(asyncio.get_running_loop().time())

    async def next(self, pieces: AsyncGenerator[Piece]) -> Piece | None:
        """Return the next piece, None after the last. Raises EngineError once the reply is halted."""
        try:
            # A time-out that is moved to now costs nothing until then; a task for each piece would.
            async with asyncio.timeout(None) as self._waiting:
                if not self._halted:
                    return await anext(pieces, None)
        except TimeoutError as error:
            if not self._halted:
                raise
            raise EngineError("The reply was stopped.") from error
        finally:
            self._waiting = None
        raise EngineError("The reply was stopped.")


@contextmanager
def _told() -> Iterator[None]:
    """Turn what the client raises into what users can mend."""
    try:
        yield
    except aiohttp.ServerTimeoutError as error:
        raise EngineError("The server upstream does not answer in time.", mend="See that it runs.") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise EngineError(
            f"The server upstream cannot be used ({type(error).__name__}).",
            mend="See that it runs and its address is right.",
        ) from error


@contextmanager
def _understood() -> Iterator[None]:
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise EngineError(
            "The server upstream answers in a form that is not the OpenAI API's.",
            mend="See that its address ends with /v1.",
        ) from error


def _text(holder: dict[str, Any], ask: Ask) -> str:
    text = holder.get("text" if ask.prompt is not None else "content") or ""
    if not isinstance(text, str):
        raise TypeError("the reply is no text")
    return text


def _check(status: int) -> None:
    if status in (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY):
        raise PromptError(f"The server upstream cannot read the request (status {status}).", mend="Shorten the prompt.")
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        raise BusyError("The server upstream has too much to do.", mend="Ask again later.")
    if status >= HTTPStatus.MULTIPLE_CHOICES:
        raise EngineError(f"The server upstream refuses the request (status {status}).", mend="See its own log.")


def _model_names(found: Any) -> tuple[str, ...]:
    with _understood():
        return tuple(str(model["id"]) for model in found["data"])


async def _events(answer: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """Read server-sent events up to [DONE]; comments and other fields are passed over."""
    async for line in answer.content:
        if not line.startswith(b"data:"):
            continue
        data = line.removeprefix(b"data:").strip()
        if data == b"[DONE]":
            return
        with _understood():
            found: dict[str, Any] = json.loads(data)
            if found.get("error"):
                raise EngineError("The server upstream reports an error in the middle of the reply.")
            yield found


def _body(ask: Ask) -> dict[str, Any]:
    """Return the request as the OpenAI API wants it; what was not asked for is left out."""
    sampling = ask.sampling
    body: dict[str, Any] = {
        "model": ask.model,
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "stream": ask.stream,
    }
    if ask.prompt is not None:
        body["prompt"] = ask.prompt
    else:
        body["messages"] = [{"role": message.role, "content": message.content} for message in ask.messages]
    if ask.stream:
        body["stream_options"] = {"include_usage": True}
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sampling.logprobs is not None and ask.prompt is None:
        body |= {"logprobs": True, "top_logprobs": sampling.logprobs}
    elif sampling.logprobs is not None:
        body["logprobs"] = sampling.logprobs
    return body


def _finish(choice: dict[str, Any]) -> Finish:
    """Return why a reply ended. Other reasons (tool calls, the server's own filter) are none of ours to pass on."""
    reason = str(choice.get("finish_reason"))
    if reason not in FINISHES:
        raise EngineError(f"The server upstream ended the reply for a reason that cannot be passed on: {reason!r}.")
    return FINISHES[reason]


def _tokens(choice: dict[str, Any]) -> tuple[Token, ...]:
    found = choice.get("logprobs") or {}
    if found.get("content"):
        return tuple(
            Token(
                text=token["token"],
                logprob=token["logprob"],
                top=tuple((other["token"], other["logprob"]) for other in token.get("top_logprobs") or ()),
            )
            for token in found["content"]
        )
    texts, logprobs, tops = found.get("tokens") or (), found.get("token_logprobs") or (), found.get("top_logprobs")
    return tuple(
        Token(text=text, logprob=logprob, top=tuple(sorted((top or {}).items(), key=lambda pair: -pair[1])))
        for text, logprob, top in zip(texts, logprobs, tops or [None] * len(texts), strict=True)
    )
