"""What attacks with several tries at a prompt have in common: they stop at the first that all judges call a success."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from safetylayers.attack.asking import GROUP
from safetylayers.attack.base import Ground, Numbered
from safetylayers.attack.record import AttackCase, Cost, stopwatch
from safetylayers.targets import Reply


@dataclass(frozen=True)
class Tried:
    """One try at one prompt."""

    attacked: str
    """The prompt as the model got it, or a description."""
    reply: Reply
    cost: Cost
    """Besides its seconds, which are counted for it."""
    prefill: str = ""


Attempt = Callable[[int, Sequence[int], Mapping[int, AttackCase]], list[Tried]]
"""Takes the try's number, from 0, the prompts' numbers, and their best cases so far; returns a try at each prompt."""


def cost_of(reply: Reply) -> Cost:
    """Return what a reply took."""
    return Cost(queries=reply.queries, tokens=reply.tokens)


def best_text(
    ground: Ground, prompts: Numbered, write: Callable[[int, int], str], *, tries: int, what: str
) -> Iterator[tuple[int, AttackCase]]:
    """Yield for each prompt the best of several texts that the target was sent.

    Args:
        ground: the target, and who judges.
        prompts: by their numbers.
        write: takes a prompt's number and the try's, from 0; returns what to send.
        tries: at most so many at each.
        what: is tried, for the progress.
    """

    def attempt(number: int, numbers: Sequence[int], _best: Mapping[int, AttackCase]) -> list[Tried]:
        texts = [write(index, number) for index in numbers]
        return [Tried(text, reply, cost_of(reply)) for text, reply in zip(texts, ground.ask(texts), strict=True)]

    yield from best_of(ground, prompts, attempt, tries=tries, what=what)


def best_of(
    ground: Ground, prompts: Numbered, attempt: Attempt, *, tries: int, what: str, group: int = GROUP
) -> Iterator[tuple[int, AttackCase]]:
    """Yield for each prompt the try that most judges call a success, with what all of its tries cost.

    Args:
        ground: who judges, and whom to tell.
        prompts: by their numbers.
        attempt: makes one try at some of them.
        tries: at most so many at each.
        what: is tried, for the progress.
        group: prompts that are tried together; each one's case is kept when the group is done.
    """
    numbers = list(prompts)
    for start in range(0, len(numbers), group):
        part = {index: prompts[index] for index in numbers[start : start + group]}
        yield from _best_of_group(ground, part, attempt, tries, what).items()


def _best_of_group(ground: Ground, prompts: Numbered, attempt: Attempt, tries: int, what: str) -> dict[int, AttackCase]:
    cases: dict[int, AttackCase] = {}
    left = list(prompts)
    for number in range(tries):
        with stopwatch() as watch:
            tried = attempt(number, left, cases)
        verdicts = ground.verdicts([prompts[index] for index in left], [each.reply for each in tried])
        for index, each, verdict in zip(left, tried, verdicts, strict=True):
            case = AttackCase(
                prompt=prompts[index], attacked=each.attacked, prefill=each.prefill, reply=each.reply.text,
                verdicts=verdict, cost=each.cost + Cost(seconds=watch.seconds / len(left)),
            )  # fmt: skip
            cases[index] = better(cases[index], case) if index in cases else case
        left = [index for index in left if cases[index].successes < len(ground.judges)]
        if ground.progress:
            ground.progress(number + 1, tries, f"{what}, {len(left)} prompts left")
        if not left:
            break
    return cases


def better(old: AttackCase, new: AttackCase) -> AttackCase:
    """Return the case that more judges call a success, at the cost of both."""
    best = max(old, new, key=lambda case: case.successes)  # the old one, where they are equal
    return best.model_copy(update={"cost": old.cost + new.cost})
