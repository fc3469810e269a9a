"""An engine that says and sees what a test tells it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Mapping

from safetylayers.errors import EngineError
from safetylayers.oversee.engine.base import Canary
from safetylayers.oversee.words import Ask, Piece, Reading, Token


class Scripted:
    """An engine whose monitors see what the test says: the words of one text, each with a risk."""

    models, watched_by, steers = ("mock",), "scripted heads", True

    def __init__(self, words: Mapping[str, float | None], *, pause: float = 0.02, rounds: int = 1) -> None:
        self.words, self.pause, self.rounds = words, pause, rounds
        self.refused: list[str] = []
        self._halted = threading.Event()

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""

    async def reply(self, ask: Ask) -> AsyncGenerator[Piece]:
        self._halted.clear()
        yield Piece(prompt_tokens=3, prompt_reading=Reading(scores={"harm": -1.0}, risk=-9.0))
        for _ in range(self.rounds):
            for word, risk in self.words.items():
                await asyncio.sleep(self.pause)
                if self._halted.is_set():
                    raise EngineError("The reply was halted.")
                if ask.id in self.refused:
                    yield Piece(text="No.", tokens=(Token(text="No."),), finish="stop")
                    return
                open_ = risk is not None and risk >= 0
                reading = Reading(scores={"harm": -1.0}, risk=risk, open=open_, strength=0.5 * open_)
                yield Piece(text=word, tokens=(Token(text=word, reading=reading),))
        yield Piece(finish="stop")

    def refuse(self, ask_id: str) -> None:
        self.refused.append(ask_id)

    def halt(self) -> int:
        self._halted.set()
        return 1

    async def canary(self) -> Canary:
        return Canary(True, "as scripted")
