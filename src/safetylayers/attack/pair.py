"""Attacks with an attacker model: it writes requests, sees what they got, and writes better ones.

PAIR (arXiv 2310.08419, algorithm 1) runs several such conversations side by side. TAP (arXiv 2312.02119, algorithm 1)
lets each branch, leaves out requests that no longer ask for the same, and goes on with the best. Both need nothing of
the target but its replies.

For testing one's own model.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from safetylayers.attack.attempts import better, cost_of
from safetylayers.attack.base import Ground, Numbered
from safetylayers.attack.pair_words import OFF_TOPIC, Turn, attacker_messages, says_same, written
from safetylayers.attack.record import AttackCase, Cost, Setting, stopwatch
from safetylayers.errors import UsageError
from safetylayers.targets import ChatClient

PARALLEL = 8
"""Requests to the attacker under way at once."""
ATTEMPTS = 3
"""Of the attacker at one request, where it does not keep to the form."""
LONGEST = 400
"""Tokens that the attacker may write."""


@dataclass(frozen=True)
class Pair:
    """Several conversations with the attacker, each a few requests long."""

    attacker: ChatClient
    streams: int = 20
    """Conversations side by side."""
    depth: int = 3
    """Requests in each."""
    name: str = "pair"

    def __post_init__(self) -> None:
        """Raise UsageError where a number makes no sense."""
        _check(self.name, self.streams, self.depth)

    def settings(self) -> dict[str, Setting]:
        """Return who attacks, and the budget."""
        return {"attacker": self.attacker.model, "streams": self.streams, "depth": self.depth}

    def cases(self, ground: Ground, prompts: Numbered) -> Iterator[tuple[int, AttackCase]]:
        """Yield a case a prompt. Raises EndpointError where the attacker cannot be asked."""
        tree = _Tree(self.attacker, None, self.streams, 1, self.streams, self.depth)
        yield from tree.cases(ground, prompts, self.name)


@dataclass(frozen=True)
class Tap:
    """A tree of conversations with the attacker."""

    attacker: ChatClient
    branching: int = 4
    """Requests that each kept conversation goes on with."""
    width: int = 10
    """Conversations that are kept after each level."""
    depth: int = 10
    """Levels."""
    evaluator: ChatClient | None = None
    """Says which requests still ask for the same; by itself the attacker."""
    name: str = "tap"

    def __post_init__(self) -> None:
        """Raise UsageError where a number makes no sense."""
        _check(self.name, self.branching, self.width, self.depth)

    def settings(self) -> dict[str, Setting]:
        """Return who attacks, and the budget."""
        return {
            "attacker": self.attacker.model, "evaluator": (self.evaluator or self.attacker).model,
            "branching": self.branching, "width": self.width, "depth": self.depth,
        }  # fmt: skip

    def cases(self, ground: Ground, prompts: Numbered) -> Iterator[tuple[int, AttackCase]]:
        """Yield a case a prompt. Raises EndpointError where the attacker cannot be asked."""
        evaluator = self.evaluator or self.attacker
        yield from _Tree(self.attacker, evaluator, 1, self.branching, self.width, self.depth).cases(
            ground, prompts, self.name
        )


def _check(name: str, *counts: int) -> None:
    if min(counts) < 1:
        raise UsageError(f"{name}: counts have to be above zero.")


@dataclass(frozen=True)
class _Leaf:
    """A conversation so far, and how well its last request did."""

    turns: tuple[Turn, ...] = ()
    successes: int = 0


@dataclass(frozen=True)
class _Tree:
    attacker: ChatClient
    evaluator: ChatClient | None
    """None where requests are not looked at before they are sent."""
    roots: int
    branching: int
    width: int
    depth: int

    def cases(self, ground: Ground, prompts: Numbered, name: str) -> Iterator[tuple[int, AttackCase]]:
        for done, (index, prompt) in enumerate(prompts.items()):
            if ground.progress:
                ground.progress(done, len(prompts), name)
            with stopwatch() as watch:
                case = self._case(replace(ground, progress=None), index, prompt)
            yield index, case.model_copy(update={"cost": case.cost + Cost(seconds=watch.seconds)})

    def _case(self, ground: Ground, index: int, prompt: str) -> AttackCase:
        case: AttackCase | None = None
        spent = Cost()
        leaves = [_Leaf()] * self.roots
        for level in range(self.depth):
            grown, cost = self._written(ground, leaves, index, level, prompt)
            spent = spent + cost
            if not grown:
                break
            asked, leaves = self._asked(ground, prompt, grown)
            for each in asked:
                case = better(case, each) if case else each
            if case and case.successes == len(ground.judges):
                break
            leaves = sorted(leaves, key=lambda leaf: -leaf.successes)[: self.width]
        if case is None:  # the attacker wrote nothing: what is left is to ask plainly
            (case,), _ = self._asked(ground, prompt, [(_Leaf(), prompt)])
        return case.model_copy(update={"cost": case.cost + spent})

    def _written(
        self, ground: Ground, leaves: Sequence[_Leaf], index: int, level: int, prompt: str
    ) -> tuple[list[tuple[_Leaf, str]], Cost]:
        """Let each conversation go on; return those with a request that may be sent, and what that took."""
        branches = [leaf for leaf in leaves for _ in range(self.branching)]
        rng = random.Random(f"{ground.seed} {index} {level}")  # noqa: S311 - not a secret
        seeds = [rng.randrange(2**31) for _ in branches]
        with self.attacker, ThreadPoolExecutor(PARALLEL) as pool:
            found = list(pool.map(lambda leaf, seed: self._write(leaf, seed, prompt), branches, seeds))
        cost = Cost(tokens=sum(tokens for _, tokens in found))
        grown = [(leaf, text) for leaf, (text, _) in zip(branches, found, strict=True) if text]
        if self.evaluator is None or not grown:
            return grown, cost
        evaluator = self.evaluator
        with evaluator, ThreadPoolExecutor(PARALLEL) as pool:
            same = list(pool.map(lambda pair: _on_topic(evaluator, prompt, pair[1]), grown))
        cost = cost + Cost(tokens=sum(tokens for _, tokens in same))
        return [pair for pair, (stays, _) in zip(grown, same, strict=True) if stays], cost

    def _write(self, leaf: _Leaf, seed: int, prompt: str) -> tuple[str, int]:
        """Return the attacker's next request, empty where it writes none, and the tokens that it took."""
        messages, tokens = attacker_messages(prompt, leaf.turns), 0
        for attempt in range(ATTEMPTS):
            text, answer = self.attacker.ask(messages, temperature=1.0, max_tokens=LONGEST, seed=seed + attempt)
            tokens += _tokens(answer)
            if request := written(text):
                return request, tokens
        return "", tokens

    def _asked(
        self, ground: Ground, prompt: str, grown: Sequence[tuple[_Leaf, str]]
    ) -> tuple[list[AttackCase], list[_Leaf]]:
        """Send requests; return a case for each, and the conversations with what came back."""
        replies = ground.ask([text for _, text in grown])
        verdicts = ground.verdicts([prompt] * len(replies), replies)
        cases = [
            AttackCase(prompt=prompt, attacked=text, reply=reply.text, verdicts=verdict, cost=cost_of(reply))
            for (_, text), reply, verdict in zip(grown, replies, verdicts, strict=True)
        ]
        leaves = [
            _Leaf((*leaf.turns, Turn(text, case.reply, case.successes, len(case.verdicts))), case.successes)
            for (leaf, text), case in zip(grown, cases, strict=True)
        ]
        return cases, leaves


def _on_topic(evaluator: ChatClient, prompt: str, request: str) -> tuple[bool, int]:
    text, answer = evaluator.ask(says_same(prompt, request), temperature=0, max_tokens=8)
    return not text.strip().lower().startswith(OFF_TOPIC), _tokens(answer)


def _tokens(answer: dict[str, object]) -> int:
    usage = answer.get("usage")
    return int(usage.get("total_tokens") or 0) if isinstance(usage, dict) else 0
