"""Finding the rows of a fine-tuning set that would move a model toward compliance (arXiv 2404.01099).

The scale comes from anchors, never from the rows themselves: a set that is harmful throughout must not look even.
Harmless requests with the model's own replies stand for 0. A row is flagged from 1 on: where the model would rather
refuse than not, or where the reply's opening is pulled nearly as much as compliant openings to harmless requests are.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safetylayers.errors import DataError, UsageError
from safetylayers.finetune.safety_rows import TOKENS, own_refusals
from safetylayers.finetune.signals import COMPLIANT, pull_signal, refusal_signal
from safetylayers.models import ChatModel
from safetylayers.prompts import Example, ExampleSet, builtin, render
from safetylayers.records import ProgressCallback, Provenance, Record

if TYPE_CHECKING:
    from safetylayers.locate import SafetyMap

REFUSAL_LIMIT = 0.0
"""Log-odds of refusal from which on a row is flagged."""
PULL_QUANTILE, PULL_SHARE = 0.1, 0.25
"""The limit is this share of what a tenth of the compliant openings do not reach; chosen on seeds of its own."""
ANCHORS = 120
"""Harmless requests."""
REASONS = {"refusal": "the model refuses the request, the row does not", "pull": "the reply opens as compliance does"}


class Signal(Record):
    """One signal of every row."""

    values: tuple[float, ...]
    """In the order of the rows."""
    zero: float
    """Value that harmless requests with the model's own replies have, at the median."""
    limit: float
    """Value from which on a row is flagged."""

    @property
    def scores(self) -> tuple[float, ...]:
        """Values on a scale of 0 to 1, the limit."""
        return tuple((value - self.zero) / (self.limit - self.zero) for value in self.values)


class ScreenResult(Record):
    """Which rows would move the model toward compliance."""

    signals: dict[str, Signal]
    scores: tuple[float, ...]
    """The greater of a row's signals, 1 being the limit; in the order of the rows."""
    limits_from: str
    """"anchors", or the name of the trusted rows."""
    layers: tuple[int, int]
    provenance: Provenance

    @property
    def flagged(self) -> tuple[int, ...]:
        """Indices of the flagged rows, from 0, the highest score first."""
        found = [index for index, score in enumerate(self.scores) if score >= 1]
        return tuple(sorted(found, key=lambda index: -self.scores[index]))

    def reasons(self, index: int) -> list[str]:
        """Return why a row is flagged."""
        return [REASONS[name] for name, signal in self.signals.items() if signal.scores[index] >= 1]


def screen(
    model: ChatModel,
    data: ExampleSet,
    map: SafetyMap,  # noqa: A002 - the word of the whole project
    *,
    refusals: ExampleSet | None = None,
    trusted: ExampleSet | None = None,
    false_positives: float = 0.02,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> ScreenResult:
    """Score every row by what it would do to the model's refusals, and flag those above a limit.

    Args:
        model: the one that is to be fine-tuned.
        data: rows to screen.
        map: the model's safety map.
        refusals: requests that the model refuses, with its refusals; by themselves the built-in training split's.
        trusted: rows that are known to be harmless, like the others in style: they set the limits.
        false_positives: share of trusted rows that may be flagged.
        seed: of the anchors.
        progress: told after each batch.

    Raises:
        WrongModelError: the map is another model's.
        NoSafetyLayersError: it has no layers.
        UsageError: `false_positives` makes no sense.
        DataError: there is no row, one has no request, or the model refuses nothing.
    """
    map.check(model)
    _check(data, false_positives)
    known = refusals or own_refusals(model, progress=progress)
    plain, compliant = anchors(model, seed, progress)
    parts = [data.examples, plain, compliant, trusted.examples if trusted else ()]
    rows = ExampleSet(data.name, tuple(row for part in parts for row in part))
    signals = {}
    for name, values in (
        ("refusal", refusal_signal(model, rows, map, progress)),
        ("pull", pull_signal(model, rows, map, known, seed, progress)),
    ):
        own, harmless, opened, safe = torch.split(values, [len(part) for part in parts])
        limit = REFUSAL_LIMIT if name == "refusal" else PULL_SHARE * float(opened.quantile(PULL_QUANTILE))
        # Each of the two signals may flag its half of what is allowed.
        signals[name] = signal_of(own, harmless, limit, safe, false_positives / len(REASONS))
    return ScreenResult(
        signals=signals,
        scores=tuple(max(scores) for scores in zip(*(each.scores for each in signals.values()), strict=True)),
        limits_from=trusted.name if trusted else "anchors",
        layers=map.range,
        provenance=Provenance(
            model=model.name,
            model_hash=model.weights_hash,
            data={each.name: each.content_hash for each in (data, known, trusted) if each},
            seed=seed,
        ),
    )


def anchors(
    model: ChatModel, seed: int, progress: ProgressCallback | None = None
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Return harmless requests with the model's own replies, and with compliant openings."""
    texts = builtin("normal", "train").sample(ANCHORS, seed).texts
    replies = model.generate(render(texts, model.tokenizer), max_new_tokens=TOKENS, progress=progress)
    rng = random.Random(seed)  # noqa: S311 - not a secret
    plain = tuple(Example.of(text, reply) for text, reply in zip(texts, replies, strict=True) if reply)
    return plain, tuple(Example.of(text, rng.choice(COMPLIANT)) for text in texts)


def signal_of(values: Tensor, harmless: Tensor, limit: float, trusted: Tensor, share: float) -> Signal:
    """Return a signal with its scale.

    Args:
        values: of the rows.
        harmless: of harmless requests with the model's own replies.
        limit: value from which on a row is flagged, where there are no trusted rows.
        trusted: of rows of which at most a share may be flagged; may be empty.
        share: of the trusted rows.
    """
    zero = float(harmless.median()) if len(harmless) else float(values.median())
    if len(trusted):
        # A little above: at the quantile itself, the row that it comes from would be flagged.
        quantile = float(trusted.quantile(1 - share))
        limit = quantile + 1e-9 * max(1.0, abs(quantile - zero))
    return Signal(values=tuple(values.tolist()), zero=zero, limit=max(limit, zero + 1e-6))


def _check(data: ExampleSet, false_positives: float) -> None:
    if not 0 < false_positives < 1:
        raise UsageError(f"A share of {false_positives} makes no sense.", mend="Use one between 0 and 1, such as 0.02.")
    if not len(data):
        raise DataError(f"{data.name}: no rows to screen.", mend="Give at least one.")
    for number, example in enumerate(data, start=1):
        if len(example.messages) < 2:
            raise DataError(f"{data.name}, example {number}: a reply without a request.", mend="Leave it out.")
