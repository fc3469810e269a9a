"""One reply in the making, as the model's thread sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, repeat
from typing import TYPE_CHECKING

from safetylayers.oversee.engine.detokenizer import Detokenizer, Vocabulary
from safetylayers.oversee.engine.mailbox import Mailbox
from safetylayers.oversee.engine.outlet import Outlet
from safetylayers.oversee.engine.prompts import Prompt
from safetylayers.oversee.engine.sampling import Draw, Likelihood
from safetylayers.oversee.words import Ask, Finish, Piece, Reading, Token

if TYPE_CHECKING:
    import torch


@dataclass
class Job:
    """A reply that is asked for."""

    ask: Ask
    mailbox: Mailbox
    prompt: Prompt = field(default_factory=lambda: Prompt([], []))
    first: bool = False
    """Whether it goes before all that wait, and beyond what may run at once."""
    ended: bool = False
    """Whether the model's thread is done with it; pieces may still wait to be taken."""

    @property
    def scored(self) -> bool:
        """Whether the prompt's own tokens' log-probabilities are asked for."""
        return self.ask.echo and self.ask.sampling.logprobs is not None


@dataclass(frozen=True)
class Habits:
    """What all replies of a model have in common."""

    vocabulary: Vocabulary
    ends_of_text: tuple[int, ...]
    context: int | None
    device: torch.device


class Row:
    """A reply's way from token to token.

    A token is taken when it is chosen, and let out once it is settled: where the model is watched, that is after the
    next pass, in which the monitors read it. So nothing leaves that they have not seen.
    """

    def __init__(self, job: Job, habits: Habits) -> None:
        """Begin with the prompt."""
        self.job, self._habits = job, habits
        sampling = job.ask.sampling
        room = sampling.max_tokens if habits.context is None else habits.context - len(job.prompt.ids)
        self._left = min(sampling.max_tokens, room)
        self.draw = Draw.of(sampling, habits.device)
        self.length = 0
        """Tokens in the cache, padding left out."""
        self.token = 0
        """What the model reads next."""
        self.finish: Finish | None = None
        self._pending: Token | None = None
        self._whole = True
        self._detokenizer = Detokenizer(habits.vocabulary)
        self._outlet = Outlet(sampling.stop)
        self._out: list[Token] = []

    def begin(self, reading: Reading | None, likelihoods: Sequence[Likelihood]) -> Piece:
        """Return what is known when the prompt was read.

        Args:
            reading: at the prompt's end.
            likelihoods: of the prompt's tokens from the second on; empty where they are not asked for.
        """
        prompt = self.job.prompt
        known = chain([None], likelihoods, repeat(None))
        echoed = tuple(self._told(*told) for told in zip(prompt.texts, prompt.ids, known, strict=False))
        return Piece(prompt_tokens=len(prompt.ids), prompt_reading=reading, echoed=echoed)

    def take(self, token: int, likelihood: Likelihood | None) -> None:
        """Take the token that was chosen to come next, if there is to be one."""
        if not self._left:
            self._end("length")
            return
        if token in self._habits.ends_of_text:
            self._end("stop")
            return
        self._left -= 1
        self.token = token
        text = self._detokenizer.add(token)
        self._pending = self._told(text, token, likelihood)
        self._whole = self._detokenizer.whole

    def settle(self, reading: Reading | None) -> None:
        """Let out the token that was taken last, with what the monitors read in it."""
        if self._pending is None:
            return
        self._out += self._outlet.add(replace(self._pending, reading=reading), whole=self._whole)
        self._pending = None
        if self._outlet.stopped:
            self.finish = "stop"
        elif not self._left:
            self._end("length")

    def _end(self, finish: Finish) -> None:
        self._out += self._outlet.close(self._detokenizer.rest())
        self.finish = "stop" if self._outlet.stopped else finish

    def piece(self) -> Piece | None:
        """Return what is to be told since the last time; None for nothing."""
        if not self._out and self.finish is None:
            return None
        tokens, self._out = tuple(self._out), []
        return Piece(text="".join(token.text for token in tokens), tokens=tokens, finish=self.finish)

    def _told(self, text: str, token: int, likelihood: Likelihood | None) -> Token:
        if likelihood is None:
            return Token(text=text, id=token)
        name = self._habits.vocabulary.text
        top = [(name(other), logprob) for other, logprob in likelihood.top[: self.job.ask.sampling.logprobs]]
        return Token(text=text, id=token, logprob=likelihood.logprob, top=tuple(top))
