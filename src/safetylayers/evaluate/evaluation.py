"""Several models side by side on the same prompts, seen by the same judges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetylayers.errors import DataError, UsageError
from safetylayers.evaluate.agreement import agreements
from safetylayers.evaluate.judges import Judge, Judgement, PatternJudge, PhraseJudge, Verdict, assess
from safetylayers.evaluate.log_odds import refusal_log_odds
from safetylayers.evaluate.mmlu import ChoiceQuestion, choose, load_choice_questions
from safetylayers.evaluate.scores import Evaluation, JudgeScores, ModelScores, Reply
from safetylayers.evaluate.utility import is_exact_match, perplexity, rouge_l
from safetylayers.prompts import Example, ExampleSet, PromptSet, Template, builtin, render
from safetylayers.prompts.rendering import render_messages
from safetylayers.records import Difference, Estimate, ProgressCallback, Provenance, Rate

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

EXAMPLES = 4
"""So many replies of each set are kept for the report."""


@dataclass(frozen=True)
class _Task:
    """What every model is put through."""

    sets: dict[str, PromptSet]
    questions: PromptSet
    references: ExampleSet
    choices: list[ChoiceQuestion]
    judges: Sequence[Judge]
    template: Template
    max_new_tokens: int
    seed: int
    progress: ProgressCallback | None

    def reply(self, model: ChatModel, texts: Sequence[str]) -> list[str]:
        rendered = render(texts, model.tokenizer, self.template)
        return model.generate(rendered, max_new_tokens=self.max_new_tokens, progress=self.progress) if texts else []


@dataclass(frozen=True)
class _Seen:
    """Everything that is known of one model, item by item."""

    replies: dict[str, list[str]]
    judgements: dict[str, dict[str, list[Judgement]]]
    right: list[bool]
    chosen: list[bool]

    @property
    def verdicts(self) -> dict[str, dict[str, list[Verdict]]]:
        """Judge -> prompt set -> verdicts."""
        return {
            judge: {name: [found.verdict for found in judgements] for name, judgements in sets.items()}
            for judge, sets in self.judgements.items()
        }

    def hits(self, judge: str, prompt_set: str, verdict: Verdict) -> list[bool]:
        return [found.verdict is verdict for found in self.judgements[judge][prompt_set]]


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
    references: ExampleSet | None = None,
    choices: str | Path | None = None,
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
        references: requests with the replies that ROUGE-L and perplexity are measured on.
        choices: a multiple-choice file in MMLU's format.
        judges: by themselves phrases and patterns; all see the same replies.
        template: how prompts are rendered.
        max_new_tokens: of each reply.
        seed: of the bootstrap.
        progress: told after each batch.

    Raises:
        UsageError: no model or no judge is given, or two share a name.
        DataError: the multiple-choice file cannot be used, or a question has no answer.
    """
    if not models:
        raise UsageError("There is nothing to evaluate.", mend="Give at least one model.")
    panel: Sequence[Judge] = [PhraseJudge(), PatternJudge()] if judges is None else judges
    if not panel:
        raise UsageError("There is no judge.", mend="Give at least one; two show where they disagree.")
    if len({judge.name for judge in panel}) < len(panel):
        raise UsageError("Two judges share a name.", mend="Give each its own, with name=.")
    task = _Task(
        sets={
            "malicious": builtin("malicious", "test") if malicious is None else malicious,
            "borderline": builtin("borderline", "test") if borderline is None else borderline,
            "normal": builtin("normal", "test") if normal is None else normal,
        },
        questions=builtin("questions", "test") if questions is None else _with_answers(questions),
        references=references or ExampleSet("none", ()),
        choices=load_choice_questions(choices) if choices else [],
        judges=panel,
        template=template,
        max_new_tokens=max_new_tokens,
        seed=seed,
        progress=progress,
    )
    seen = [_observe(model, task) for model in models]
    scores = [
        _score(model, found, seen[0] if index else None, task)
        for index, (model, found) in enumerate(zip(models, seen, strict=True))
    ]
    used: dict[str, PromptSet | ExampleSet] = {**task.sets, "questions": task.questions}
    if references:
        used["references"] = references
    hashes = {f"{role}: {data.name}": data.content_hash for role, data in used.items()}
    source = Provenance(model=models[0].name, model_hash=models[0].weights_hash, data=hashes, seed=seed)
    return Evaluation(models=tuple(scores), data=hashes, provenance=source)


def _with_answers(questions: PromptSet) -> PromptSet:
    """Return the questions. Raises DataError if one has no answer: it would count as wrong, whatever is replied."""
    if unanswered := [prompt.id for prompt in questions if not prompt.answer]:
        raise DataError(
            f"{questions.name}: {len(unanswered)} questions have no answer, the first is row {unanswered[0]}.",
            mend="Give every row an 'answer'.",
        )
    return questions


def _observe(model: ChatModel, task: _Task) -> _Seen:
    """Generate every reply once, for all judges."""
    replies = {name: task.reply(model, prompts.texts) for name, prompts in task.sets.items()}
    judgements = {
        judge.name: {name: assess(judge, task.sets[name].texts, said) for name, said in replies.items()}
        for judge in task.judges
    }
    answers = task.reply(model, task.questions.texts)
    right = [is_exact_match(said, prompt.answer) for said, prompt in zip(answers, task.questions, strict=True)]
    chosen = choose(model, task.choices, template=task.template, progress=task.progress) if task.choices else []
    return _Seen(replies, judgements, right, chosen)


def _score(model: ChatModel, seen: _Seen, baseline: _Seen | None, task: _Task) -> ModelScores:
    differences = _differences(baseline, seen, task) if baseline else {}
    prompt_ids = {name: [prompt.id for prompt in prompts] for name, prompts in task.sets.items()}
    likeness, ease = _against_references(model, task)
    return ModelScores(
        name=model.name,
        model_hash=model.weights_hash,
        judges={judge.name: _judge_scores(seen, judge.name, task.seed) for judge in task.judges},
        disagreement=_disagreement(seen),
        agreement=agreements(seen.verdicts, prompt_ids),
        refusal_log_odds=_odds(model, task),
        exact_match=Rate.of(seen.right),
        rouge_l=likeness,
        perplexity=ease,
        choices=Rate.of(seen.chosen) if task.choices else None,
        differences=differences.get(task.judges[0].name, {}),
        judge_differences=differences,
        examples=_examples(seen, task.sets),
    )


def _odds(model: ChatModel, task: _Task) -> dict[str, Estimate]:
    odds = {}
    for name, prompts in task.sets.items():
        if len(prompts):
            rendered = render(prompts.texts, model.tokenizer, task.template)
            odds[name] = Estimate.of(refusal_log_odds(model, rendered, progress=task.progress).tolist(), seed=task.seed)
    return odds


def _against_references(model: ChatModel, task: _Task) -> tuple[Estimate | None, Estimate | None]:
    """ROUGE-L of the model's replies, and its perplexity on the references themselves."""
    if not task.references.examples:
        return None, None
    wanted = [example.response for example in task.references]
    rendered = [_asked(example, model, task.template) for example in task.references]
    replies = model.generate(rendered, max_new_tokens=task.max_new_tokens, progress=task.progress)
    return (
        rouge_l(replies, wanted, seed=task.seed),
        perplexity(model, rendered, wanted, progress=task.progress),
    )


def _asked(example: Example, model: ChatModel, template: Template) -> str:
    """Render the whole conversation before the reply; the Alpaca template has room for its last request only."""
    if template == "chat":
        return render_messages(example.messages[:-1], model.tokenizer)
    return render([example.prompt], model.tokenizer, template)[0]


def _judge_scores(seen: _Seen, judge: str, seed: int) -> JudgeScores:
    rates = {name: Rate.of(seen.hits(judge, *measure)) for name, measure in _MEASURES.items()}
    incoherent = [hit for name in seen.replies for hit in seen.hits(judge, name, Verdict.INCOHERENT)]
    scores = [found.score for found in seen.judgements[judge]["malicious"] if found.score is not None]
    return JudgeScores(
        **rates, incoherent_rate=Rate.of(incoherent), mean_score=Estimate.of(scores, seed=seed) if scores else None
    )


def _disagreement(seen: _Seen) -> Rate:
    by_judge = [[verdict for verdicts in sets.values() for verdict in verdicts] for sets in seen.verdicts.values()]
    return Rate.of([len(set(verdicts)) > 1 for verdicts in zip(*by_judge, strict=True)])


def _differences(before: _Seen, after: _Seen, task: _Task) -> dict[str, dict[str, Difference]]:
    """Judge -> measure -> change; sets without prompts are left out."""
    right = {"exact_match": (before.right, after.right), "choices": (before.chosen, after.chosen)}
    found = {}
    for judge in task.judges:
        pairs = {
            name: (before.hits(judge.name, *measure), after.hits(judge.name, *measure))
            for name, measure in _MEASURES.items()
        }
        found[judge.name] = {
            name: Difference.of(old, new, seed=task.seed) for name, (old, new) in {**pairs, **right}.items() if old
        }
    return found


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
