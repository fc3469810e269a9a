"""Real servers for tests, in threads of their own."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp


@contextmanager
def running(app: ASGIApp) -> Iterator[str]:
    """Serve an application on a free port; give its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    for _ in range(1000):
        if server.started:
            break
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


class Upstream:
    """An OpenAI-compatible server that says what it is told to say, for the gateway to stand in front of."""

    def __init__(self) -> None:
        self.text = "Paris is the capital of France."
        self.pause = 0.0
        self.fault: str | None = None
        """None, or: cut, error-frame, busy, broken, odd-finish, garbage, hang."""
        self.seen: list[dict[str, Any]] = []
        self.sent = 0
        """Pieces of streams that were sent."""
        self.app = Starlette(
            routes=[
                Route("/v1/models", self._models),
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/v1/completions", self._chat, methods=["POST"]),
            ]
        )

    async def _models(self, _request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": "mock", "object": "model"}]})

    async def _chat(self, request: Request) -> Response:
        body = await request.json()
        self.seen.append(body)
        if self.fault == "busy":
            return JSONResponse({"error": {"message": "busy"}}, status_code=429)
        if self.fault == "broken":
            return JSONResponse({"error": {"message": "broken"}}, status_code=500)
        if self.fault == "hang":
            await asyncio.sleep(30)
        if self.fault == "garbage" and not body.get("stream"):
            return JSONResponse({"answer": 42})
        if body.get("stream"):
            return StreamingResponse(self._events("messages" in body), media_type="text/event-stream")
        if self.pause:
            await asyncio.sleep(self.pause)
        return JSONResponse(self._whole("messages" in body))

    def _whole(self, chat: bool) -> dict[str, Any]:
        finish = "tool_calls" if self.fault == "odd-finish" else "stop"
        reply = {"message": {"role": "assistant", "content": self.text}} if chat else {"text": self.text}
        usage = {"prompt_tokens": 3, "completion_tokens": 7, "total_tokens": 10}
        return {"choices": [{"index": 0, "finish_reason": finish, **reply}], "usage": usage}

    async def _events(self, chat: bool) -> AsyncIterator[bytes]:
        words = self.text.split(" ")
        for place, word in enumerate(words):
            text = word if place == 0 else f" {word}"
            delta: dict[str, Any] = {"delta": {"content": text}} if chat else {"text": text}
            yield self._event({"choices": [{"index": 0, "finish_reason": None, **delta}]})
            self.sent += 1
            if self.pause:
                await asyncio.sleep(self.pause)
            if self.fault == "cut" and place == len(words) // 2:
                return
            if self.fault == "error-frame" and place == 1:
                yield self._event({"error": {"message": "out of memory"}})
                return
            if self.fault == "garbage" and place == 1:
                yield b"data: {not json\n\n"
        finish = "tool_calls" if self.fault == "odd-finish" else "stop"
        delta = {"delta": {}} if chat else {"text": ""}
        yield self._event({"choices": [{"index": 0, "finish_reason": finish, **delta}]})
        yield self._event({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": len(words)}})
        yield b"data: [DONE]\n\n"

    @staticmethod
    def _event(found: dict[str, Any]) -> bytes:
        return f"data: {json.dumps(found)}\n\n".encode()
