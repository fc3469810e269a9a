"""What attacks on prompts have in common: one reply a prompt, group by group, so that an interruption loses little."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from safetylayers.attack.base import Ground, Numbered
from safetylayers.attack.record import AttackCase, Cost, stopwatch

GROUP = 64
"""Prompts whose cases are kept together."""


def asked(
    ground: Ground, prompts: Numbered, attacked: Sequence[str], openings: Sequence[str] | None = None
) -> Iterator[tuple[int, AttackCase]]:
    """Yield a case for each prompt: the target's reply to what it was made into.

    Args:
        ground: whom to ask, and who judges.
        prompts: as they were.
        attacked: as they are asked, in the same order.
        openings: how the replies are begun.
    """
    begun = openings or [""] * len(attacked)
    everything = list(zip(prompts.items(), attacked, begun, strict=True))
    for start in range(0, len(everything), GROUP):
        rows = everything[start : start + GROUP]
        texts = [text for (_, text), _, _ in rows]
        with stopwatch() as watch:
            replies = ground.ask([made for _, made, _ in rows], openings=[opening for _, _, opening in rows])
        verdicts = ground.verdicts(texts, replies)
        for ((index, text), made, opening), reply, verdict in zip(rows, replies, verdicts, strict=True):
            cost = Cost(queries=reply.queries, tokens=reply.tokens, seconds=watch.seconds / len(rows))
            yield (
                index,
                AttackCase(prompt=text, attacked=made, prefill=opening, reply=reply.text, verdicts=verdict, cost=cost),
            )
