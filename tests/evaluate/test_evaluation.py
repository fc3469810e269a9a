from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from safetylayers.errors import DataError, UsageError
from safetylayers.evaluate import Evaluation, PatternJudge, PhraseJudge, Verdict, evaluate
from safetylayers.evaluate.agreement import agreements
from safetylayers.evaluate.judges import Judge, Judgement
from safetylayers.evaluate.tables import evaluation_markdown, evaluation_rows
from safetylayers.evaluate.utility import perplexity
from safetylayers.models import ChatModel
from safetylayers.prompts import Example, ExampleSet, PromptSet, builtin
from safetylayers.prompts.rendering import render_messages
from support import random_chat_model

NONE = PromptSet("none", ())


class LengthJudge:
    """Refused: an even number of characters. Any rule serves where only the counting is tested."""

    def __init__(self, name: str = "length") -> None:
        self.name = name
        self.seen: list[list[str]] = []

    def judge(self, prompts: Sequence[str], replies: Sequence[str]) -> list[Verdict]:
        return [judgement.verdict for judgement in self.assess(prompts, replies)]

    def assess(self, prompts: Sequence[str], replies: Sequence[str]) -> list[Judgement]:
        assert len(prompts) == len(replies)
        self.seen.append(list(replies))
        return [
            Judgement((Verdict.REFUSED, Verdict.COMPLIED)[len(reply) % 2], float(len(prompt)))
            for prompt, reply in zip(prompts, replies, strict=True)
        ]


def _small(**changes: object) -> dict[str, object]:
    sets = {name: builtin(name, "test").take(6) for name in ("malicious", "borderline", "normal", "questions")}
    return {**sets, "max_new_tokens": 6, **changes}


def _evaluate(models: Sequence[ChatModel], judges: Sequence[Judge] | None = None, **changes: object) -> Evaluation:
    return evaluate(models, judges=judges, **_small(**changes))  # type: ignore[arg-type]  # options of several types


def test_rates_count_what_the_judge_said(llama: ChatModel) -> None:
    judge = LengthJudge()
    scores = _evaluate([llama], [judge]).models[0]
    malicious, borderline, normal = judge.seen
    found = scores.judges["length"]
    assert found.harmful_rate.count == sum(len(reply) % 2 for reply in malicious)
    assert found.over_refusal_rate.count == sum(len(reply) % 2 == 0 for reply in borderline)
    assert found.benign_refusal_rate.count == sum(len(reply) % 2 == 0 for reply in normal)
    assert (found.incoherent_rate.count, found.incoherent_rate.total) == (0, 18)
    texts = builtin("malicious", "test").take(6).texts
    assert found.mean_score is not None
    assert found.mean_score.mean == pytest.approx(sum(map(len, texts)) / 6)


def test_every_judge_sees_the_same_replies(llama: ChatModel) -> None:
    one, other = LengthJudge("one"), LengthJudge("other")
    scores = _evaluate([llama], [one, other]).models[0]
    assert one.seen == other.seen
    assert scores.disagreement.count == 0
    assert scores.agreement[0].agreement.value == 1


def test_a_model_against_itself_differs_in_nothing(llama: ChatModel) -> None:
    first, second = _evaluate([llama, llama]).models
    assert first.differences == {}
    assert first.judge_differences == {}
    assert first.model_hash == second.model_hash
    assert set(second.judge_differences) == {"phrases", "patterns"}
    for differences in second.judge_differences.values():
        assert set(differences) == {"harmful_rate", "over_refusal_rate", "benign_refusal_rate", "exact_match"}
        assert all((found.mean, found.low, found.high) == (0, 0, 0) for found in differences.values())
    assert second.differences == second.judge_differences["phrases"]


def test_differences_are_the_rates_differences(llama: ChatModel) -> None:
    other = random_chat_model("Llama", seed=5)
    before, after = _evaluate([llama, other], [LengthJudge()]).models
    moved = after.differences["harmful_rate"]
    expected = after.judges["length"].harmful_rate.value - before.judges["length"].harmful_rate.value
    assert moved.mean == pytest.approx(expected)
    assert moved.low <= moved.mean <= moved.high


def test_references_and_choices_are_measured_where_given(llama: ChatModel, tmp_path: Path) -> None:
    references = ExampleSet(
        "mine", (Example.of("What is red?", "A colour."), Example.of("What is a cow?", "An animal."))
    )
    path = tmp_path / "choices.csv"
    path.write_text("question,choice0,choice1,choice2,choice3,answer\nQ?,a,b,c,d,0\nQ?,a,b,c,d,1\n")
    found = _evaluate([llama], references=references, choices=path)
    scores = found.models[0]
    assert scores.rouge_l is not None
    assert scores.perplexity is not None
    assert scores.choices is not None
    assert (scores.rouge_l.total, scores.perplexity.total, scores.choices.total) == (2, 2, 2)
    assert scores.choices.count == 1  # the same question twice, with two answers: right once
    assert found.data["references: mine"] == references.content_hash
    plain = _evaluate([llama]).models[0]
    assert (plain.rouge_l, plain.perplexity, plain.choices) == (None, None, None)


def test_an_empty_set_is_left_out(llama: ChatModel) -> None:
    scores = _evaluate([llama, llama], borderline=NONE, normal=NONE, questions=NONE).models[1]
    assert scores.judges["phrases"].over_refusal_rate.total == 0
    assert set(scores.refusal_log_odds) == {"malicious"}
    assert set(scores.differences) == {"harmful_rate"}


def test_examples_name_set_prompt_and_every_verdict(llama: ChatModel) -> None:
    examples = _evaluate([llama]).models[0].examples
    assert [example.prompt_set for example in examples] == ["malicious"] * 4 + ["borderline"] * 4 + ["normal"] * 4
    assert all(set(example.verdicts) == {"phrases", "patterns"} for example in examples)


def test_the_record_survives_writing_and_reading(llama: ChatModel, tmp_path: Path) -> None:
    found = _evaluate([llama, random_chat_model("Llama", seed=5)], [LengthJudge(), PatternJudge()])
    assert Evaluation.read(found.write(tmp_path / "result.json")) == found
    assert found.provenance.data == found.data
    names = ("malicious", "borderline", "normal", "questions")
    assert set(found.data) == {f"{name}: {name}/test" for name in names}


def test_one_seed_gives_one_result_and_progress_is_told(llama: ChatModel) -> None:
    told: list[tuple[int, int, str]] = []
    first = _evaluate([llama], progress=lambda done, total, what: told.append((done, total, what)))
    assert first.models == _evaluate([llama]).models
    assert told
    assert all(0 <= done <= total for done, total, _ in told)


def test_what_cannot_be_evaluated_is_said(llama: ChatModel, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to evaluate"):
        _evaluate([])
    with pytest.raises(UsageError, match="no judge"):
        _evaluate([llama], [])
    with pytest.raises(UsageError, match="share a name"):
        _evaluate([llama], [PhraseJudge(), PhraseJudge()])
    with pytest.raises(DataError, match="6 questions have no answer"):
        _evaluate([llama], questions=builtin("normal", "test").take(6))
    with pytest.raises(DataError):
        _evaluate([llama], choices=tmp_path / "none.csv")


def test_rows_hold_a_line_a_model_and_judge(llama: ChatModel) -> None:
    found = _evaluate([llama, llama])
    rows = evaluation_rows(found)
    assert [row[1] for row in rows] == ["judge", "phrases", "patterns", "phrases", "patterns"]
    lines = evaluation_markdown(found).splitlines()
    assert len(lines) == 6
    assert all(line.count("|") == len(rows[0]) + 1 for line in lines)


def test_agreement_counts_kappa_and_names_the_prompts() -> None:
    refused, complied = Verdict.REFUSED, Verdict.COMPLIED
    verdicts = {
        "one": {"a": [refused, refused], "b": [complied, complied]},
        "two": {"a": [refused, complied], "b": [complied, complied]},
    }
    (found,) = agreements(verdicts, {"a": ["a1", "a2"], "b": ["b1", "b2"]})
    assert (found.agreement.count, found.agreement.total) == (3, 4)
    assert found.kappa == pytest.approx((0.75 - 0.5) / (1 - 0.5))  # by hand: chance agreement is one half
    (pair,) = found.disagreements
    assert (pair.prompt_set, pair.prompt_id, pair.first, pair.second) == ("a", "a2", refused, complied)


def test_kappa_is_not_made_up_where_all_verdicts_are_one() -> None:
    same = {"a": [Verdict.REFUSED, Verdict.REFUSED]}
    (found,) = agreements({"one": same, "two": same}, {"a": ["1", "2"]})
    assert found.kappa is None
    assert found.agreement.value == 1


def test_references_are_read_with_all_turns_before_the_reply(llama: ChatModel) -> None:
    turns = ("user", "Name a colour."), ("assistant", "Red."), ("user", "Another one."), ("assistant", "Blue.")
    messages = tuple({"role": role, "content": content} for role, content in turns)
    found = _evaluate([llama], references=ExampleSet("mine", (Example(messages),))).models[0].perplexity
    asked = render_messages(messages[:-1], llama.tokenizer)
    assert found is not None
    assert found.mean == pytest.approx(perplexity(llama, [asked], ["Blue."]).mean)


def test_sets_of_one_name_keep_their_hashes_apart(llama: ChatModel) -> None:
    first, second = (PromptSet("same", builtin(name, "test").take(4).prompts) for name in ("malicious", "normal"))
    found = _evaluate([llama], malicious=first, normal=second)
    assert found.data["malicious: same"] == first.content_hash
    assert found.data["normal: same"] == second.content_hash
