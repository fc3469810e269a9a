"""Several models side by side on the same prompts, seen by the same judges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safetylayers.errors import UsageError
from safetylayers.evaluate.judges import Judge, PatternJudge, PhraseJudge, Verdict
from safetylayers.evaluate.log_odds import refusal_log_odds
from safetylayers.evaluate.utility import is_exact_match
from safetylayers.prompts import PromptSet, Template, builtin, render
from safetylayers.records import Difference, Estimate, ProgressCallback, Provenance, Rate, Record
from safetylayers.stats import bootstrap_mean

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

EXAMPLES = 4
"""So many replies of each set are kept for the report."""


class JudgeScores(Record):
    """One model in one judge's eyes."""

    harmful_rate: Rate
    """Malicious prompts whose reply complied: coherent, and no refusal."""
    over_refusal_rate: Rate
    """Borderline prompts refused: harmless ones that look dangerous."""
    benign_refusal_rate: Rate
    """Normal prompts refused."""
    incoherent_rate: Rate
    """Replies to all three sets that are gibberish."""


class Reply(Record):
    """A reply as an example for the report."""

    prompt_set: str
    prompt: str
    reply: str
    verdicts: dict[str, Verdict]
    """Judge -> verdict."""


class ModelScores(Record):
    """One model's results."""

    name: str
    model_hash: str
    judges: dict[str, JudgeScores]
    disagreement: Rate
    """Replies on which not all judges agree."""
    refusal_log_odds: dict[str, Estimate]
    """Prompt set -> mean log-odds of opening with a refusal."""
    exact_match: Rate
    """Checkable questions answered right."""
    differences: dict[str, Difference]
    """Measure -> change against the first model, by the first judge; empty for the first model itself."""
    examples: tuple[Reply, ...]


class Evaluation(Record):
    """Models in the order they were given; the first one is the baseline."""

    models: tuple[ModelScores, ...]
    data: dict[str, str]
    """Prompt set -> content hash."""
    provenance: Provenance


@dataclass(frozen=True)
class _Seen:
    """Everything that is known of one model, item by item."""

    replies: dict[str, list[str]]
    verdicts: dict[str, dict[str, list[Verdict]]]
    right: list[bool]

    def hits(self, judge: str, prompt_set: str, verdict: Verdict) -> list[bool]:
        return [found is verdict for found in self.verdicts[judge][prompt_set]]


_MEASURES = {
    "harmful_rate": ("malicious", Verdict.COMPLIED),
    "over_refusal_rate": ("borderline", Verdict.REFUSED),
    "benign_refusal_rate": ("normal", Verdict.REFUSED),
}


def evaluate(
    models: Sequence[ChatModel],
    *,
    malicious: PromptSet | None = None,
    borderline: PromptSet | None = None,
    normal: PromptSet | None = None,
    questions: PromptSet | None = None,
    judges: Sequence[Judge] | None = None,
    template: Template = "chat",
    max_new_tokens: int = 48,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Evaluation:
    """Let every model reply to the same prompts, and count.

    Args:
        models: the first is the baseline that the others are compared with.
        malicious: requests to be refused; by itself the built-in set's test split, as with the next two.
        borderline: harmless requests that look dangerous.
        normal: plainly harmless requests.
        questions: with answers; by itself the built-in set's test split.
        judges: by themselves phrases and patterns; the first one's verdicts enter the comparisons.
        template: how prompts are rendered.
        max_new_tokens: of each reply.
        seed: of the bootstrap.
        progress: told after each batch.

    Raises:
        UsageError: no model or no judge is given.
    """
    if not models:
        raise UsageError("There is nothing to evaluate.", mend="Give at least one model.")
    panel: Sequence[Judge] = [PhraseJudge(), PatternJudge()] if judges is None else judges
    if not panel:
        raise UsageError("There is no judge.", mend="Give at least one; two show where they disagree.")
    sets = {
        "malicious": malicious or builtin("malicious", "test"),
        "borderline": borderline or builtin("borderline", "test"),
        "normal": normal or builtin("normal", "test"),
    }
    asked = questions or builtin("questions", "test")
    seen = [_observe(model, sets, asked, panel, template, max_new_tokens, progress) for model in models]
    scores = [
        _score(model, found, seen[0] if index else None, sets, panel, template, seed, progress)
        for index, (model, found) in enumerate(zip(models, seen, strict=True))
    ]
    hashes = {prompts.name: prompts.content_hash for prompts in [*sets.values(), asked]}
    source = Provenance(model=models[0].name, model_hash=models[0].weights_hash, data=hashes, seed=seed)
    return Evaluation(models=tuple(scores), data=hashes, provenance=source)


def _observe(
    model: ChatModel,
    sets: dict[str, PromptSet],
    questions: PromptSet,
    judges: Sequence[Judge],
    template: Template,
    max_new_tokens: int,
    progress: ProgressCallback | None,
) -> _Seen:
    """Generate every reply once, for all judges."""

    def reply(prompts: PromptSet) -> list[str]:
        rendered = render(prompts.texts, model.tokenizer, template)
        return model.generate(rendered, max_new_tokens=max_new_tokens, progress=progress)

    replies = {name: reply(prompts) for name, prompts in sets.items()}
    verdicts = {
        judge.name: {name: judge.judge(sets[name].texts, said) for name, said in replies.items()} for judge in judges
    }
    right = [is_exact_match(said, prompt.answer) for said, prompt in zip(reply(questions), questions, strict=True)]
    return _Seen(replies, verdicts, right)


def _score(
    model: ChatModel,
    seen: _Seen,
    baseline: _Seen | None,
    sets: dict[str, PromptSet],
    judges: Sequence[Judge],
    template: Template,
    seed: int,
    progress: ProgressCallback | None,
) -> ModelScores:
    odds = {}
    for name, prompts in sets.items():
        values = refusal_log_odds(model, render(prompts.texts, model.tokenizer, template), progress=progress).numpy()
        low, high = bootstrap_mean(values, seed=seed)
        odds[name] = Estimate(mean=float(values.mean()), low=low, high=high, total=len(values))
    return ModelScores(
        name=model.name,
        model_hash=model.weights_hash,
        judges={judge.name: _judge_scores(seen, judge.name) for judge in judges},
        disagreement=_disagreement(seen),
        refusal_log_odds=odds,
        exact_match=Rate.of(seen.right),
        differences=_differences(baseline, seen, judges[0].name, seed) if baseline else {},
        examples=_examples(seen, sets),
    )


def _judge_scores(seen: _Seen, judge: str) -> JudgeScores:
    rates = {name: Rate.of(seen.hits(judge, *measure)) for name, measure in _MEASURES.items()}
    incoherent = [hit for name in seen.replies for hit in seen.hits(judge, name, Verdict.INCOHERENT)]
    return JudgeScores(**rates, incoherent_rate=Rate.of(incoherent))


def _disagreement(seen: _Seen) -> Rate:
    by_judge = [[verdict for verdicts in sets.values() for verdict in verdicts] for sets in seen.verdicts.values()]
    return Rate.of([len(set(verdicts)) > 1 for verdicts in zip(*by_judge, strict=True)])


def _differences(before: _Seen, after: _Seen, judge: str, seed: int) -> dict[str, Difference]:
    found = {
        name: Difference.of(before.hits(judge, *measure), after.hits(judge, *measure), seed=seed)
        for name, measure in _MEASURES.items()
    }
    return {**found, "exact_match": Difference.of(before.right, after.right, seed=seed)}


def _examples(seen: _Seen, sets: dict[str, PromptSet]) -> tuple[Reply, ...]:
    """Keep replies at even distances through each set, so that every category has its chance."""
    found = []
    for name, prompts in sets.items():
        step = max(1, len(prompts) // EXAMPLES)
        for index in range(0, len(prompts), step)[:EXAMPLES]:
            verdicts = {judge: verdicts[name][index] for judge, verdicts in seen.verdicts.items()}
            reply = seen.replies[name][index]
            found.append(Reply(prompt_set=name, prompt=prompts.texts[index], reply=reply, verdicts=verdicts))
    return tuple(found)
