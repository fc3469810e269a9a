"""Random search: no gradient and no attacker model (arXiv 2404.02151, section 3).

Where log-probabilities are to be had, a suffix of tokens is changed at random, and a change is kept if it makes a
compliant opening likelier. Where a target only replies, it is sent requests put together from templates, encodings and
suffixes, and what the judges say decides which of them goes on.

For testing one's own model.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from safetylayers.attack.attempts import Tried, best_of, better, cost_of
from safetylayers.attack.base import Ground, Numbered
from safetylayers.attack.composing import Composition
from safetylayers.attack.embedding import TARGET
from safetylayers.attack.gcg.layout import Layout, Tokens, allowed_tokens, lay_out
from safetylayers.attack.gcg.reading import Reader
from safetylayers.attack.record import AttackCase, Cost, Setting, stopwatch
from safetylayers.errors import UsageError
from safetylayers.targets import ModelTarget


@dataclass(frozen=True)
class RandomSearch:
    """Searches for each prompt until all judges say that the model complied, or the budget is spent."""

    steps: int = 150
    """Of the search by log-probabilities, in one forward pass each."""
    candidates: int = 64
    """Suffixes that are read in a step."""
    length: int = 20
    """Of the suffix, in tokens."""
    replaced: int = 4
    """At most so many neighbouring tokens are changed at once."""
    check_every: int = 10
    """Steps after which the target is asked, if the suffix has changed."""
    initial: str = " !"
    """Text that is repeated for the first suffix."""
    target: str = TARGET
    """The compliant opening that is made likely."""
    queries: int = 32
    """Requests a prompt, where a target only replies."""
    replies_only: bool = False
    """Whether log-probabilities are left alone also where there are some."""
    name: str = "search"

    def __post_init__(self) -> None:
        """Raise UsageError where a number makes no sense."""
        counts = (self.steps, self.candidates, self.length, self.replaced, self.check_every, self.queries)
        if min(counts) < 1 or self.replaced > self.length:
            raise UsageError("search: counts have to be above zero, and no more tokens replaced than there are.")

    def settings(self) -> dict[str, Setting]:
        """Return the budget of both kinds of search."""
        return {
            "steps": self.steps, "candidates": self.candidates, "length": self.length, "replaced": self.replaced,
            "check every": self.check_every, "initial": self.initial, "target": self.target,
            "queries": self.queries, "replies only": self.replies_only,
        }  # fmt: skip

    def cases(self, ground: Ground, prompts: Numbered) -> Iterator[tuple[int, AttackCase]]:
        """Yield a case a prompt."""
        if self.replies_only or not isinstance(ground.target, ModelTarget):
            yield from _by_replies(self, ground, prompts)
            return
        for done, (index, prompt) in enumerate(prompts.items()):
            if ground.progress:
                ground.progress(done, len(prompts), "random search")
            yield index, _by_logprobs(self, ground, ground.target, index, prompt)


def _by_logprobs(plan: RandomSearch, ground: Ground, target: ModelTarget, index: int, prompt: str) -> AttackCase:
    layout = lay_out(
        target.model.tokenizer, target.template, prompt, initial=plan.initial, length=plan.length, target=plan.target
    )
    quiet = Ground(target, ground.judges, ground.seed)
    with stopwatch() as watch:
        walk = Walk(plan, Reader(target.model, layout), layout, f"{ground.seed} {index}")
        case = _asked(quiet, prompt, layout.typed(walk.suffix) or prompt)
        sent = walk.suffix
        for step in range(1, plan.steps + 1):
            if case.successes == len(ground.judges):
                break
            walk.step()
            due = step % plan.check_every == 0 or step == plan.steps
            if due and walk.suffix != sent and (text := layout.typed(walk.suffix)) is not None:
                sent = walk.suffix
                case = better(case, _asked(quiet, prompt, text))
    cost = case.cost + walk.reader.cost + Cost(seconds=watch.seconds)
    return case.model_copy(update={"cost": cost})


def _asked(ground: Ground, prompt: str, attacked: str) -> AttackCase:
    (reply,) = ground.ask([attacked])
    (verdicts,) = ground.verdicts([prompt], [reply])
    return AttackCase(prompt=prompt, attacked=attacked, reply=reply.text, verdicts=verdicts, cost=cost_of(reply))


class Walk:
    """A suffix that goes from one to a better one, at random."""

    def __init__(self, plan: RandomSearch, reader: Reader, layout: Layout, seed: str) -> None:
        """Begin at the layout's own suffix."""
        self._plan, self._layout, self.reader = plan, layout, reader
        rows = reader.model.model.get_input_embeddings().get_parameter("weight").shape[0]
        self._allowed: list[int] = torch.nonzero(allowed_tokens(layout.tokenizer, rows))[:, 0].tolist()
        self._rng = random.Random(seed)  # noqa: S311 - not a secret
        self.suffix: Tokens = layout.start
        self.reader.follow(self.suffix)
        (self.loss,) = self.reader.losses([self.suffix])

    def step(self) -> None:
        """Read some changed suffixes at once, and go on from the best if it is better."""
        drawn = list(dict.fromkeys(self._changed() for _ in range(self._plan.candidates)))
        sendable = [suffix for suffix, can in zip(drawn, self._layout.sendable(drawn), strict=True) if can]
        if not sendable:
            return
        loss, suffix = min(zip(self.reader.losses(sendable), sendable, strict=True))
        if loss < self.loss:
            self.loss, self.suffix = loss, suffix
            self.reader.follow(suffix)

    def _changed(self) -> Tokens:
        """Return the suffix with a run of tokens drawn anew."""
        count = self._rng.randint(1, self._plan.replaced)
        start = self._rng.randint(0, len(self.suffix) - count)
        drawn = self._rng.choices(self._allowed, k=count)
        return (*self.suffix[:start], *drawn, *self.suffix[start + count :])


def _by_replies(plan: RandomSearch, ground: Ground, prompts: Numbered) -> Iterator[tuple[int, AttackCase]]:
    """Send compositions: drawn ones, and half of the time, where some judge took one for a success, changes of it.

    Half of the time only, since one judge may misread replies that the others rightly call refusals.
    """
    sent: dict[tuple[int, str], Composition] = {}

    def attempt(number: int, numbers: Sequence[int], best: Mapping[int, AttackCase]) -> list[Tried]:
        texts = []
        for index in numbers:
            rng = random.Random(f"{ground.seed} {index} {number}")  # noqa: S311 - not a secret
            promising = index in best and best[index].successes > 0 and rng.random() < 0.5
            found = sent[index, best[index].attacked].changed(rng) if promising else Composition.drawn(rng)
            texts.append(found.of(prompts[index], rng))
            sent[index, texts[-1]] = found
        return [Tried(text, reply, cost_of(reply)) for text, reply in zip(texts, ground.ask(texts), strict=True)]

    yield from best_of(ground, prompts, attempt, tries=plan.queries, what="random search")
