"""Where two judges see the same replies differently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from safetylayers.evaluate.judges import Verdict
from safetylayers.records import Rate, Record


class Disagreement(Record):
    """One reply on which two judges differ."""

    prompt_set: str
    prompt_id: str
    first: Verdict
    second: Verdict


class Agreement(Record):
    """Two judges over all replies of one model."""

    first: str
    second: str
    agreement: Rate
    """Replies with the same verdict from both."""
    kappa: float | None
    """Cohen's kappa: agreement beyond chance (Cohen 1960). None where both gave one verdict throughout."""
    disagreements: tuple[Disagreement, ...]


def agreements(
    verdicts: Mapping[str, Mapping[str, Sequence[Verdict]]], prompt_ids: Mapping[str, Sequence[str]]
) -> tuple[Agreement, ...]:
    """Compare each pair of judges.

    Args:
        verdicts: judge -> prompt set -> verdicts.
        prompt_ids: prompt set -> ids, in the same order.
    """
    return tuple(_compare(one, other, verdicts, prompt_ids) for one, other in combinations(verdicts, 2))


def _compare(
    one: str,
    other: str,
    verdicts: Mapping[str, Mapping[str, Sequence[Verdict]]],
    prompt_ids: Mapping[str, Sequence[str]],
) -> Agreement:
    seen = [
        Disagreement(prompt_set=name, prompt_id=prompt_id, first=first, second=second)
        for name, ids in prompt_ids.items()
        for prompt_id, first, second in zip(ids, verdicts[one][name], verdicts[other][name], strict=True)
    ]
    differing = tuple(pair for pair in seen if pair.first is not pair.second)
    return Agreement(
        first=one,
        second=other,
        agreement=Rate.of([pair.first is pair.second for pair in seen]),
        kappa=_kappa([pair.first.value for pair in seen], [pair.second.value for pair in seen]),
        disagreements=differing,
    )


def _kappa(first: list[str], second: list[str]) -> float | None:
    from sklearn.metrics import cohen_kappa_score

    if len({*first, *second}) < 2:
        return None
    return float(cohen_kappa_score(first, second))
