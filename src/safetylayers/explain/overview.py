"""What a model refuses for: the words that push towards refusal, over a whole prompt set, and where it over-refuses."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from safetylayers.explain.saliency import DEFAULT, METHODS, Explained
from safetylayers.explain.target import values_of
from safetylayers.explain.tokens import Reading, bare, quoted
from safetylayers.explain.verdict import settled
from safetylayers.prompts import PromptSet, render
from safetylayers.records import Estimate, ProgressCallback, Provenance, Rate, Record

if TYPE_CHECKING:
    from safetylayers.explain.explainer import Explainer

WORDS = 25
"""That are shown."""


class WordEffect(Record):
    """A word, and what it does to the refusal log-odds of the refused prompts that it stands in."""

    word: str
    """In lower case, without marks around it."""
    effect: Estimate
    """Mean score over those prompts."""
    refused: Rate
    """How many of all prompts that it stands in are refused."""


class Asked(Record):
    """One prompt of the set."""

    prompt: str
    category: str
    refusal_log_odds: float
    strongest: str
    """The word that pushes most towards what the model does."""


class Overview(Record):
    """What a model refuses in a prompt set, and for which words."""

    schema_version: Literal[1] = 1
    provenance: Provenance
    method: str
    refused: Rate
    by_category: Mapping[str, Rate]
    words: tuple[WordEffect, ...]
    """Those that push most towards refusal, strongest first."""
    settled: tuple[int, ...]
    """For each layer, how many prompts come to their final side of the refusal direction there."""
    prompts: tuple[Asked, ...]
    """Most surely refused first. Among harmless prompts, the first ones are the over-refusals."""

    @property
    def sentence(self) -> str:
        """What was found, in a sentence or two."""
        name = next(iter(self.provenance.data))
        found = f"{self.provenance.model} refuses {self.refused} of {name}."
        if self.words:
            found += f" What pushes most towards that: {quoted(each.word for each in self.words[:5])}."
        return found


def overview(
    explainer: Explainer,
    prompts: PromptSet,
    *,
    method: str = DEFAULT,
    fewest: int = 2,
    progress: ProgressCallback | None = None,
) -> Overview:
    """Explain every prompt of a set, and say what they have in common.

    Args:
        explainer: of the model.
        prompts: to be asked.
        method: of saliency.
        fewest: refused prompts that a word has to stand in.
        progress: told after each prompt.

    Raises:
        UsageError: a prompt is empty, or there is no such method.
    """
    from safetylayers.explain.explainer import check_methods

    check_methods([method])
    model = explainer.model
    readings = [explainer.read(prompt.text) for prompt in prompts]
    odds = values_of(explainer.target, model, [reading.token_ids for reading in readings]).tolist()
    words = []
    for done, reading in enumerate(readings, start=1):
        words.append(METHODS[method](Explained(model, explainer.target, reading)).words)
        if progress:
            progress(done, len(readings), "prompts explained")
    refused = [value > 0 for value in odds]
    asked = [
        Asked(
            prompt=prompt.text,
            category=prompt.category,
            refusal_log_odds=value,
            strongest=_strongest(reading, scores, value > 0),
        )
        for prompt, reading, scores, value in zip(prompts, readings, words, odds, strict=True)
    ]
    return Overview(
        provenance=Provenance(
            model=model.name, model_hash=model.weights_hash, data={prompts.name: prompts.content_hash}
        ),
        method=method,
        refused=Rate.of(refused),
        by_category=_by_category(prompts, refused),
        words=_effects(readings, words, refused, fewest),
        settled=_settled(explainer, prompts),
        prompts=tuple(sorted(asked, key=lambda each: -each.refusal_log_odds)),
    )


def _strongest(reading: Reading, scores: Sequence[float], refused: bool) -> str:
    towards = 1 if refused else -1
    return reading.words[max(range(len(scores)), key=lambda n: towards * scores[n])].text


def _by_category(prompts: PromptSet, refused: Sequence[bool]) -> dict[str, Rate]:
    found: dict[str, list[bool]] = defaultdict(list)
    for prompt, hit in zip(prompts, refused, strict=True):
        found[prompt.category].append(hit)
    return {name: Rate.of(hits) for name, hits in found.items() if name}


def _effects(
    readings: Sequence[Reading], scores: Sequence[Sequence[float]], refused: Sequence[bool], fewest: int
) -> tuple[WordEffect, ...]:
    """Return the words that push most towards refusal; of a word that a prompt repeats, its scores' sum counts once.

    Prompts that are answered do not count: far below 0 log-odds move by tens for every word.
    """
    effects: dict[str, list[float]] = defaultdict(list)
    hits: dict[str, list[bool]] = defaultdict(list)
    for reading, row, hit in zip(readings, scores, refused, strict=True):
        sums: Counter[str] = Counter()
        for word, score in zip(reading.words, row, strict=True):
            sums[bare(word.text)] += score  # type: ignore[assignment]  # typeshed has counts as whole numbers
        for word_text, total in sums.items():
            hits[word_text].append(hit)
            if hit:
                effects[word_text].append(total)
    found = [
        WordEffect(word=word, effect=Estimate.of(values), refused=Rate.of(hits[word]))
        for word, values in effects.items()
        if word and len(values) >= fewest
    ]
    return tuple(sorted(found, key=lambda each: -each.effect.mean)[:WORDS])


def _settled(explainer: Explainer, prompts: PromptSet) -> tuple[int, ...]:
    model = explainer.model
    texts = render(prompts.texts, model.tokenizer, explainer.template)
    shares_PL = explainer.scales.refusal(model.hidden_states(texts)[:, :, 0])
    counts = Counter(settled(row) for row in shares_PL.tolist())
    return tuple(counts[layer] for layer in range(model.n_layers))
