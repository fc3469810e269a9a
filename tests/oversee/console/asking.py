"""Callers whose requests are open while a test does something about them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from openai import APIError, OpenAI

from oversee.console.conftest import Console


@dataclass
class Asked:
    """An open request, and what came of it."""

    thread: threading.Thread
    text: str = ""
    finish: str | None = None
    error: str | None = None
    parts: list[str] = field(default_factory=list)

    def wait(self) -> Asked:
        """Wait until the caller has an answer."""
        self.thread.join(20)
        assert not self.thread.is_alive(), "the caller is still waiting"
        return self


def ask(gateway: Console, content: str = "Hello", *, stream: bool = False, **options: Any) -> Asked:
    """Begin a request; it goes on in a thread of its own."""
    client = OpenAI(base_url=f"{gateway.address}/v1", api_key=gateway.key, max_retries=0)

    def run() -> None:
        messages: Any = [{"role": "user", "content": content}]
        try:
            if stream:
                for chunk in client.chat.completions.create(model="mock", messages=messages, stream=True, **options):
                    for choice in chunk.choices:
                        asked.parts.append(choice.delta.content or "")
                        asked.finish = choice.finish_reason or asked.finish
                asked.text = "".join(asked.parts)
            else:
                choice = client.chat.completions.create(model="mock", messages=messages, **options).choices[0]
                asked.text, asked.finish = choice.message.content or "", choice.finish_reason
        except APIError as error:
            asked.error = str(error)
        finally:
            client.close()

    asked = Asked(threading.Thread(target=run, daemon=True))
    asked.thread.start()
    return asked


def until(true: Callable[[], object], *, seconds: float = 10.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)
