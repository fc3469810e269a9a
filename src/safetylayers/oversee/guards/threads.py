"""Work that would hold up the event loop, in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
Model = TypeVar("Model")

_LONG = 4096
"""Characters from which a thread is worth its start."""


async def off_the_loop(characters: int, work: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """Do work on so many characters: in a thread where they are many, so that other replies go on meanwhile."""
    if characters < _LONG:
        return work(*args, **options)
    return await asyncio.to_thread(work, *args, **options)


class ModelThread(Generic[Model]):
    """A model in a thread of its own: loaded when it is first needed, asked one thing at a time."""

    def __init__(self, name: str, load: Callable[[], Model]) -> None:
        """Name the thread, and say how the model is loaded. Nothing happens yet."""
        self._load = load
        self._model: Model | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def ask(self, work: Callable[[Model], T]) -> T:
        """Do something with the model. What waits is given up when its asker is; what runs goes on to its end."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(self._work, work))

    def _work(self, work: Callable[[Model], T]) -> T:
        if self._model is None:
            self._model = self._load()
        return work(self._model)

    def close(self) -> None:
        """Give up what waits, and let go of the model."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._model = None
