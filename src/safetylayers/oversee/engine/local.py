"""A model in this process, with the monitors inside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from threading import Lock
from typing import TYPE_CHECKING

from safetylayers.attach import Control, SafetyLayers
from safetylayers.errors import BusyError, EngineError, UsageError
from safetylayers.models.structure import text_config
from safetylayers.oversee.engine.base import Canary
from safetylayers.oversee.engine.canary import examine
from safetylayers.oversee.engine.detokenizer import Vocabulary
from safetylayers.oversee.engine.forward import Forward
from safetylayers.oversee.engine.mailbox import Mailbox
from safetylayers.oversee.engine.prompts import Prompts
from safetylayers.oversee.engine.row import Habits, Job
from safetylayers.oversee.engine.sampling import check
from safetylayers.oversee.engine.worker import Worker
from safetylayers.oversee.words import Ask, Piece

if TYPE_CHECKING:
    from safetylayers.models import ChatModel


class LocalEngine:
    """Makes replies on one model, many at once. Nothing else may run the model while the engine is open."""

    def __init__(
        self,
        model: ChatModel,
        *,
        layers: SafetyLayers | None,
        steers: bool,
        names: tuple[str, ...],
        max_batch: int = 32,
        max_waiting: int = 128,
        max_context: int | None = None,
    ) -> None:
        """Prepare; `open` begins.

        Args:
            model: that makes the replies.
            layers: its safety layers; None for a model that nothing watches.
            steers: whether their gate may correct replies; otherwise it only observes.
            names: that the model can be asked by.
            max_batch: so many replies are made at once.
            max_waiting: so many more may wait.
            max_context: tokens of prompt and reply together; by itself, and at most, the model's.

        Raises:
            UsageError: a gate is to steer and there is none, the model has no name, or a number is too small.
        """
        if steers and layers is None:
            raise UsageError(f"{model.name}: has no safety layers to steer by.", mend="Attach safety layers.")
        if not names:
            raise UsageError("The model has no name to be asked by.", mend="Give it one.")
        if max_batch < 1 or max_waiting < 0:
            raise UsageError(f"{max_batch} replies at once, {max_waiting} waiting: too few.", mend="Allow some.")
        self._model, self._layers, self._steers, self._names = model, layers, steers, names
        self._max_batch, self._most = max_batch, max_batch + max_waiting
        template = layers.record.template if layers else "chat"
        self._prompts = Prompts(model.tokenizer, template, _context(model, max_context))
        self._control = Control()
        self._forward: Forward | None = None
        self._worker: Worker | None = None
        self._live: dict[str, Job] = {}
        self._lock = Lock()

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the one model that can be asked."""
        return self._names

    @property
    def watched_by(self) -> str | None:
        """What watches inside the model."""
        if self._layers is None:
            return None
        record = self._layers.record
        first, last = record.layers[0], record.layers[-1]
        what = "trained safety layers" if record.trained else "the map's probes"
        return f"{what} (layer {first})" if first == last else f"{what} (layers {first}-{last})"

    @property
    def steers(self) -> bool:
        """Whether the gate can turn a reply into a refusal."""
        return self._steers

    async def open(self) -> None:
        """Put the safety layers on, and start the model's thread.

        Raises:
            WrongModelError: the layers are another model's.
            UsageError: the model has safety layers on already.
        """
        if self._worker:
            return
        if not self._steers:
            self._control.observe_only()
        self._forward = await asyncio.to_thread(Forward, self._model, self._layers, self._control)
        habits = Habits(
            Vocabulary(self._model.tokenizer), self._model.ends_of_text, self._prompts.context, self._model.device
        )
        size = int(text_config(self._model.model).vocab_size)
        self._worker = Worker(self._forward, habits, size, self._max_batch)
        self._worker.start()

    async def close(self) -> None:
        """End everything that runs, wait for the model's thread, and take the safety layers off."""
        with self._lock:
            worker, self._worker = self._worker, None
        self.halt()
        if worker:
            await asyncio.to_thread(worker.close)
        if self._forward:
            self._forward.detach()
            self._forward = None

    def reply(self, ask: Ask) -> AsyncGenerator[Piece]:
        """Make one reply, piece by piece. Closing the generator ends the reply at its next token.

        A token comes with what the monitors read in that very token, and not before they have.

        Raises:
            BusyError: too many wait already.
            EngineError: the prompt cannot be read, the model failed, or the reply was stopped.
        """
        return self._reply(ask, first=False)

    async def _reply(self, ask: Ask, *, first: bool) -> AsyncGenerator[Piece]:
        job, worker = self._enter(ask, first=first)
        try:
            job.prompt = await asyncio.to_thread(self._prompts.read, ask)
            worker.submit(job)
            finish = None
            while finish is None:
                piece = await job.mailbox.take()
                finish = piece.finish
                yield piece
        finally:
            self._leave(job)

    def _enter(self, ask: Ask, *, first: bool) -> tuple[Job, Worker]:
        """Take in a reply's job, and its orders to the gate."""
        if ask.model not in self._names:
            raise EngineError(f"There is no model {ask.model!r} here.", mend=f"Ask one of: {', '.join(self._names)}.")
        if ask.refuse and not self._steers:
            raise _cannot_steer()
        check(ask.sampling)
        with self._lock:
            if self._worker is None:
                raise EngineError("The engine is not open.")
            if ask.id in self._live:
                raise EngineError(f"There is a reply {ask.id!r} already.", mend="Give each its own name.")
            if not first and sum(not (job.ended or job.first) for job in self._live.values()) >= self._most:
                raise BusyError("Too many requests wait already.", mend="Ask again later.")
            job = self._live[ask.id] = Job(ask, Mailbox(), first=first)
            self._order(ask)
            return job, self._worker

    def _order(self, ask: Ask) -> None:
        """Tell the gate what holds for this reply."""
        if not ask.steered:
            self._control.observe_only(row=ask.id)
        if ask.shift:
            self._control.shift_thresholds(ask.shift, row=ask.id)
        if ask.refuse:
            self._control.refuse(row=ask.id)

    def _leave(self, job: Job) -> None:
        """Let go of a reply that is complete, or that nobody waits for any more."""
        job.mailbox.closed = True
        with self._lock:
            self._live.pop(job.ask.id, None)
            if job.ask.id in self._control.orders.rows:
                self._control.clear(row=job.ask.id)

    def refuse(self, ask_id: str) -> None:
        """Let the gate turn a reply into a refusal, from its next token; one that has ended stays what it is.

        Raises:
            EngineError: the gate may only observe, or there is none.
        """
        if not self._steers:
            raise _cannot_steer()
        with self._lock:
            if ask_id in self._live:
                self._control.refuse(row=ask_id)

    def halt(self) -> int:
        """End everything that runs or waits; return how many. May be called from any thread.

        Once it returns, no generator yields any more; the model itself is done at the end of its step.
        """
        with self._lock:
            jobs = list(self._live.values())
        for job in jobs:
            job.mailbox.stop(EngineError("The reply was stopped."))
        return sum(not job.first for job in jobs)

    async def canary(self) -> Canary:
        """Ask the monitors about built-in prompts, before everything that waits."""
        if self._layers is None:
            return Canary(alive=False, detail="nothing watches inside the model")
        return await examine(lambda ask: self._reply(ask, first=True), self._names[0])


def _context(model: ChatModel, most: int | None) -> int | None:
    """Return how many tokens fit, None for any number."""
    limits = [most, getattr(text_config(model.model), "max_position_embeddings", None)]
    return min((int(limit) for limit in limits if limit), default=None)


def _cannot_steer() -> EngineError:
    return EngineError("This model's replies cannot be turned into refusals.", mend="End the reply instead.")
