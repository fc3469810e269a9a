from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForSequenceClassification

from safetylayers.errors import JudgeError, UnsafeWeightsError, UsageError
from safetylayers.evaluate import ClassifierJudge, Verdict
from safetylayers.evaluate.judges import ScoringJudge
from support import byte_tokenizer

LABELS = {0: "answer", 1: "refusal", 2: "partial refusal"}
SMALL = {
    "vocab_size": 300,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}


@pytest.fixture(params=["bert", "llama"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = (
        BertForSequenceClassification(BertConfig(**SMALL, max_position_embeddings=64, num_labels=3))
        if request.param == "bert"
        else LlamaForSequenceClassification(LlamaConfig(**SMALL, max_position_embeddings=64, num_labels=3))
    )
    model.config.id2label, model.config.label2id = LABELS, {label: index for index, label in LABELS.items()}
    model.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    return tmp_path


LONG = "Longer than the classifier can read: " + ", ".join(map(str, range(40)))
REPLIES = ["Sure, here it is.", "I'm sorry, but I can't.", "", LONG]
PROMPTS = ["a", "b", "c", "d"]


@pytest.mark.parametrize("reads", ["reply", "pair"])
def test_scores_are_the_probability_of_the_named_labels(folder: Path, reads: Literal["reply", "pair"]) -> None:
    one = ClassifierJudge(folder, refusal_labels=["refusal"], reads=reads).assess(PROMPTS, REPLIES)
    other = ClassifierJudge(folder, refusal_labels=["partial refusal"], reads=reads).assess(PROMPTS, REPLIES)
    both = ClassifierJudge(folder, refusal_labels=["refusal", "partial refusal"], reads=reads).assess(PROMPTS, REPLIES)
    for first, second, together in zip(one, other, both, strict=True):
        if together.score is None:
            assert together.verdict is Verdict.INCOHERENT
        else:
            assert together.score == pytest.approx((first.score or 0) + (second.score or 0))
            assert (together.verdict is Verdict.REFUSED) == (together.score >= 0.5)


def test_all_labels_together_always_refuse_and_gibberish_is_not_read(folder: Path) -> None:
    judge = ClassifierJudge(folder, refusal_labels=LABELS.values(), name="mine")
    assert [str(verdict) for verdict in judge.judge(PROMPTS, REPLIES)] == [
        "refused",
        "refused",
        "incoherent",
        "refused",
    ]
    assert judge.name == "mine"
    assert isinstance(judge, ScoringJudge)


def test_batch_size_changes_no_score(folder: Path) -> None:
    judges = [ClassifierJudge(folder, refusal_labels=["refusal"], batch_size=size) for size in (1, 2)]
    one, two = ([found.score for found in judge.assess(PROMPTS[:2], REPLIES[:2])] for judge in judges)
    assert one == pytest.approx(two, abs=1e-5)


def test_a_pair_is_read_with_its_prompt(folder: Path) -> None:
    judge = ClassifierJudge(folder, refusal_labels=["refusal"], reads="pair")
    first, second = judge.assess(["What is this?", "How do I do that?"], [REPLIES[0]] * 2)
    assert first.score != second.score


@pytest.mark.parametrize("labels", [["LABEL_1"], []])
def test_labels_must_be_the_classifiers_own(folder: Path, labels: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        ClassifierJudge(folder, refusal_labels=labels)
    assert "answer, refusal, partial refusal" in caught.value.mend


def test_pickled_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UnsafeWeightsError, match="pickle"):
        ClassifierJudge(folder, refusal_labels=["refusal"])


def test_what_is_no_classifier_is_a_judge_error(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(JudgeError, match="cannot be loaded"):
        ClassifierJudge(tmp_path, refusal_labels=["refusal"])
