"""How a reply comes from the model's thread to the one that asked."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Sequence
from contextlib import suppress

from safetylayers.errors import EngineError
from safetylayers.oversee.words import Piece


class Mailbox:
    """One reply's pieces. They are posted from the model's thread and taken in the event loop that made the mailbox."""

    def __init__(self) -> None:
        """Belong to the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._pieces: deque[Piece] = deque()
        self._error: EngineError | None = None
        self._stopped: EngineError | None = None
        self.closed = False
        """Whether nobody takes anything from it any more: the reply need not be made."""

    def stop(self, error: EngineError) -> None:
        """Let nothing more out, from any thread: whoever takes next, or waits, gets the error."""
        self._stopped, self.closed = error, True
        with suppress(RuntimeError):  # the loop has ended, and with it whoever waited
            self._loop.call_soon_threadsafe(self._news.set)

    def put(self, item: Piece | EngineError) -> None:
        """Take in a piece, or what the reply broke off with; in the event loop."""
        if isinstance(item, EngineError):
            self._error = item
        else:
            self._pieces.append(item)
        self._news.set()

    async def take(self) -> Piece:
        """Return the next piece; those that came meanwhile are made one, but for the first, which tells of the prompt.

        Raises:
            EngineError: the reply broke off, or was stopped.
        """
        while not (self._stopped or self._pieces or self._error):
            self._news.clear()
            await self._news.wait()
        if self._stopped:
            raise self._stopped
        if not self._pieces and self._error:
            raise self._error
        first = self._pieces.popleft()
        if first.prompt_tokens is not None or not self._pieces:
            return first
        pieces = [first, *self._pieces]
        self._pieces.clear()
        return Piece(
            text="".join(piece.text for piece in pieces),
            tokens=tuple(token for piece in pieces for token in piece.tokens),
            finish=pieces[-1].finish,
        )


Post = tuple[Mailbox, Piece | EngineError]


def deliver(posts: Sequence[Post]) -> None:
    """Hand posts over, from the model's thread: one call for each event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Post]] = defaultdict(list)
    for post in posts:
        by_loop[post[0]._loop].append(post)
    for loop, mine in by_loop.items():
        try:
            loop.call_soon_threadsafe(_put, mine)
        except RuntimeError:  # the loop has ended
            for mailbox, _ in mine:
                mailbox.closed = True


def _put(posts: Sequence[Post]) -> None:
    for mailbox, item in posts:
        mailbox.put(item)
