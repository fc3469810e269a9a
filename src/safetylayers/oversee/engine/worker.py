"""The thread that owns the model.

It works in turns: rows whose readers left are dropped, some that wait are read and join those that run, and every
batch makes one token a row. So a reply begins without waiting for others to end, and leaves when it is complete
("continuous batching", Orca, OSDI 2022).
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor

from safetylayers.errors import EngineError, PromptError
from safetylayers.oversee.engine.batch import Batch
from safetylayers.oversee.engine.forward import Forward
from safetylayers.oversee.engine.mailbox import Post, deliver
from safetylayers.oversee.engine.row import Habits, Job, Row
from safetylayers.oversee.engine.sampling import NO_NUMBER, Likelihood, choose, likelihoods

READ_AT_ONCE = 4096
"""Tokens of prompts, padding included, that are read in one turn; a longer prompt is read alone."""
LOGITS_AT_ONCE = 2**27
"""Numbers that the logits of prompts that are scored may have."""

_log = logging.getLogger(__name__)


class Worker:
    """Makes replies, all in one thread."""

    def __init__(self, forward: Forward, habits: Habits, vocabulary_size: int, max_batch: int) -> None:
        """Prepare; `start` begins."""
        self._forward, self._habits, self._max_batch = forward, habits, max_batch
        self._scored_at_once = max(LOGITS_AT_ONCE // vocabulary_size, 1)
        self._waiting: deque[Job] = deque()
        self._news = threading.Condition()
        self._closing = False
        self._batches: list[Batch] = []
        self._posts: list[Post] = []
        self._thread = threading.Thread(target=self._run, name="safetylayers-model", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Let a reply wait for its turn.

        Raises:
            PromptError: the prompt is to be scored and is too long for that.
        """
        if job.scored and len(job.prompt.ids) > self._scored_at_once:
            raise PromptError(
                f"The prompt is {len(job.prompt.ids)} tokens long; at most {self._scored_at_once} can be scored.",
                mend="Leave logprobs out, or shorten it.",
            )
        with self._news:
            (self._waiting.appendleft if job.first else self._waiting.append)(job)
            self._news.notify()

    def close(self) -> None:
        """End the thread after its turn, and wait for it."""
        with self._news:
            self._closing = True
            self._news.notify()
        self._thread.join()

    def _run(self) -> None:
        while self._wait():
            self.turn()
        self._batches = []

    def _wait(self) -> bool:
        """Wait for something to do; return whether there is."""
        with self._news:
            self._news.wait_for(lambda: self._closing or self._waiting or self._batches)
            return not self._closing

    @torch.inference_mode()
    def turn(self) -> None:
        """Do what is to be done next."""
        try:
            self._work()
        except Exception as error:  # whatever it was, nobody is to wait for ever
            rows = [row for batch in self._batches for row in batch.rows]
            self._batches = []
            self._tell(rows, _failed(error))
        self._post()

    def _work(self) -> None:
        for batch in self._batches:
            batch.keep([place for place, row in enumerate(batch.rows) if not row.job.mailbox.closed])
        if jobs := self._next():
            self._begin(jobs)
            self._post()
        for batch in self._batches:
            self._step(batch)
        self._batches = [batch for batch in self._batches if batch.rows]

    def _next(self) -> list[Job]:
        """Return jobs that wait and can be read in one pass, in the order in which they came."""
        jobs: list[Job] = []
        room = self._max_batch - sum(len(batch.rows) for batch in self._batches)
        with self._news:
            while self._waiting:
                job = self._waiting[0]
                if job.mailbox.closed:
                    job.ended = True
                elif (len(jobs) < room or job.first) and self._fits(jobs, job):
                    jobs.append(job)
                else:
                    break
                self._waiting.popleft()
        return jobs

    def _fits(self, jobs: list[Job], job: Job) -> bool:
        """Whether a prompt may be read with others; prompts that are scored go together, for they need all logits."""
        if not jobs:
            return True
        width = max(len(other.prompt.ids) for other in (*jobs, job))
        most = min(READ_AT_ONCE, self._scored_at_once) if job.scored else READ_AT_ONCE
        return jobs[0].scored == job.scored and (len(jobs) + 1) * width <= most

    def _begin(self, jobs: list[Job]) -> None:
        """Read prompts; where that fails, each alone, so that none fails by another's fault."""
        posted = len(self._posts)
        try:
            batch = self._read([Row(job, self._habits) for job in jobs])
        except Exception as error:
            batch, told = None, _failed(error)
        if batch:
            self._admit(batch)
            return
        del self._posts[posted:]
        if len(jobs) == 1:
            self._end(jobs[0], told)
            return
        for job in jobs:
            self._begin([job])

    def _read(self, rows: list[Row]) -> Batch:
        """Read prompts and choose the first tokens."""
        prompts = [row.job.prompt.ids for row in rows]
        names = [row.job.ask.id for row in rows]
        logits_BTV, cache = self._forward.read(names, prompts, last=0 if rows[0].job.scored else 1)
        readings = self._forward.readings(names)
        for row, reading, logits_TV in zip(rows, readings, logits_BTV, strict=True):
            row.length = len(row.job.prompt.ids)
            self._posts.append((row.job.mailbox, row.begin(reading, _scores(row.job, logits_TV))))
        batch = Batch(rows, cache)
        self._choose(batch, logits_BTV[:, -1])
        return batch

    def _admit(self, batch: Batch) -> None:
        """Let a batch run with the others; where its cache cannot be joined, it runs beside them."""
        if not batch.rows:
            return
        running = next((other for other in self._batches if other.rows), None)
        if running is None or not batch.can_join:
            self._batches.append(batch)
            return
        try:
            running.join(batch)
        except Exception as error:  # a cache that is joined by half serves nobody
            self._tell(running.rows + batch.rows, _failed(error))
            running.rows = []

    def _step(self, batch: Batch) -> None:
        """Make one token a row."""
        rows = batch.rows
        if not rows:
            return
        try:
            logits_BV = self._forward.step([row.token for row in rows], [row.length for row in rows], batch.cache)
            readings = self._forward.readings([row.job.ask.id for row in rows])
            for row, reading in zip(rows, readings, strict=True):
                row.length += 1
                row.settle(reading)
            self._choose(batch, logits_BV)
        except Exception as error:
            batch.rows = []
            self._tell(rows, _failed(error))

    def _choose(self, batch: Batch, logits_BV: Tensor) -> None:
        """Choose each row's next token, tell what is new, and let go of rows that are complete."""
        tokens = choose(logits_BV, [row.draw for row in batch.rows])
        known = _likelihoods(batch.rows, tokens, logits_BV)
        for place, (row, token) in enumerate(zip(batch.rows, tokens, strict=True)):
            if row.finish is None and token == NO_NUMBER:
                self._end(row.job, EngineError("The model's output is not a number.", mend="See the model's weights."))
                continue
            if row.finish is None:
                row.take(token, known.get(place))
                if not self._forward.watches:
                    row.settle(None)
            if piece := row.piece():
                self._posts.append((row.job.mailbox, piece))
            row.job.ended = row.finish is not None
        batch.keep([place for place, row in enumerate(batch.rows) if not row.job.ended])

    def _tell(self, rows: Sequence[Row], error: EngineError) -> None:
        for row in rows:
            self._end(row.job, EngineError(error.message, mend=error.mend))

    def _end(self, job: Job, error: EngineError) -> None:
        """End a reply with an error."""
        job.ended = True
        self._posts.append((job.mailbox, error))

    def _post(self) -> None:
        posts, self._posts = self._posts, []
        deliver(posts)


def _scores(job: Job, logits_TV: Tensor) -> list[Likelihood]:
    """Return how likely a prompt's own tokens were, from the second on; nothing where nobody asks."""
    ids, count = job.prompt.ids, job.ask.sampling.logprobs
    return likelihoods(logits_TV[-len(ids) : -1], ids[1:], count) if job.scored and count is not None else []


def _likelihoods(rows: Sequence[Row], tokens: Sequence[int], logits_BV: Tensor) -> dict[int, Likelihood]:
    """Return how likely the chosen tokens were, by the place of the rows that ask for it."""
    wanted = {place: count for place, row in enumerate(rows) if (count := row.job.ask.sampling.logprobs) is not None}
    places = [place for place in wanted if rows[place].finish is None and tokens[place] != NO_NUMBER]
    if not places:
        return {}
    found = likelihoods(logits_BV[places], [tokens[place] for place in places], max(wanted.values()))
    return dict(zip(places, found, strict=True))


def _failed(error: Exception) -> EngineError:
    """Return what to tell of a failed pass. The error itself stays here: it would keep the pass's tensors alive."""
    _log.error("A pass of the model failed.", exc_info=error)
    if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "can't allocate memory" not in str(error):
        return EngineError(f"The model failed ({type(error).__name__}).", mend="See the log.")
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return EngineError("The model ran out of memory.", mend="Shorten the prompt, or let fewer replies run at once.")
