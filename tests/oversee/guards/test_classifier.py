from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from transformers import BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForSequenceClassification

from oversee.guards.streaming import streamed, whole
from safetylayers.errors import GuardError, UnsafeWeightsError
from safetylayers.oversee.guards import Failure, Finding, Passage, Verdict, run_guard
from safetylayers.oversee.guards.classifier import ClassifierGuard, ClassifierSettings
from support import byte_tokenizer

SMALL = {
    "vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
    "max_position_embeddings": 64, "num_labels": 3, "initializer_range": 0.6,
}  # fmt: skip
LABELS = {0: "fine", 1: "toxic", 2: "threat"}
KINDS = {"toxic": "harm", "threat": "harm"}
TEXT = "Longer than the classifier can read at once: " + ", ".join(map(str, range(60)))


def _save(folder: Path, architecture: str = "bert", **changes: Any) -> Path:
    torch.manual_seed(0)
    config = {**SMALL, **changes}
    model = (
        BertForSequenceClassification(BertConfig(**config))
        if architecture == "bert"
        else LlamaForSequenceClassification(LlamaConfig(**config))
    )
    model.config.id2label, model.config.label2id = LABELS, {label: index for index, label in LABELS.items()}
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(params=["bert", "llama"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return _save(tmp_path, request.param)


def _guard(at: Path, **others: Any) -> ClassifierGuard:
    plain = {"source": str(at), "labels": {"toxic": "harm"}, "every": 100, "context": 40, "threshold": 1e-9}
    return ClassifierGuard("classifier", ClassifierSettings.model_validate({**plain, **others}))


def _findings(guard: ClassifierGuard, passage: Passage) -> list[Finding]:
    async def scenario() -> list[Finding]:
        try:
            return list((await guard.check(passage)).findings)
        finally:
            await guard.aclose()

    return asyncio.run(scenario())


def _score(source: Path, text: str, **others: Any) -> float:
    [finding] = _findings(_guard(source, **others), Passage("input", text))
    assert finding.score is not None
    return finding.score


def test_scores_are_the_probabilities_of_the_named_labels(folder: Path) -> None:
    toxic, threat = _score(folder, "Hello."), _score(folder, "Hello.", labels={"threat": "harm"})
    assert _score(folder, "Hello.", labels=KINDS) == pytest.approx(toxic + threat)
    assert _score(folder, "Hello.", labels=dict.fromkeys(LABELS.values(), "any")) == pytest.approx(1)


def test_labels_of_their_own_probability_do_not_add_up(tmp_path: Path) -> None:
    source = _save(tmp_path, problem_type="multi_label_classification")
    toxic, threat = _score(source, "Hello."), _score(source, "Hello.", labels={"threat": "harm"})
    assert _score(source, "Hello.", labels=KINDS) == max(toxic, threat)
    assert toxic + threat + _score(source, "Hello.", labels={"fine": "x"}) != pytest.approx(1)


def test_only_what_reaches_the_threshold_is_found(folder: Path) -> None:
    score = _score(folder, "Hello.")
    assert _findings(_guard(folder, threshold=score * 1.001), Passage("input", "Hello.")) == []
    assert len(_findings(_guard(folder, threshold=score * 0.999), Passage("input", "Hello."))) == 1


def test_a_long_text_is_read_to_its_end(folder: Path) -> None:
    def scores(text: str) -> dict[str, float]:
        guard = _guard(folder, labels={label: label for label in LABELS.values()}, overlap=16)
        return {found.kind: found.score or 0 for found in _findings(guard, Passage("input", text))}

    # A token a character, 64 at once, of which 16 were in the part before.
    parts = [scores(TEXT[start : start + 64]) for start in range(0, len(TEXT) - 16, 48)]
    highest = {label: max(part[label] for part in parts) for label in LABELS.values()}
    assert scores(TEXT) == pytest.approx(highest, abs=1e-5)
    assert highest != pytest.approx(parts[0], abs=1e-3)  # which is all that would be read of a text cut off


def test_special_tokens_in_a_text_are_read_as_text(folder: Path) -> None:
    guard = _guard(folder)
    asyncio.run(guard.open())
    [scores] = asyncio.run(guard._thread.ask(lambda loaded: loaded.scores(["a<|pad|>"])))
    tokens = asyncio.run(
        guard._thread.ask(lambda loaded: loaded.tokenizer(["a<|pad|>"], split_special_tokens=True).input_ids[0])
    )
    assert 0 not in tokens
    assert set(scores) == {"harm"}
    asyncio.run(guard.aclose())


@pytest.mark.parametrize("cuts", [[], [0.3, 0.5, 0.9], [0.05 * step for step in range(20)]])
def test_cuts_change_nothing(tmp_path: Path, cuts: list[float]) -> None:
    guard = _guard(_save(tmp_path), threshold=0.3)

    async def both() -> tuple[list[Finding], list[Finding]]:
        try:
            return await streamed(guard, TEXT, cuts), await whole(guard, TEXT)
        finally:
            await guard.aclose()

    found, at_once = asyncio.run(both())
    assert [(each.start, each.end) for each in found] == [(each.start, each.end) for each in at_once]
    # Windows are batched otherwise; that moves the last digits.
    assert [each.score for each in found] == pytest.approx([each.score for each in at_once], abs=1e-5)


def test_a_reply_is_held_back_until_a_window_is_whole(tmp_path: Path) -> None:
    guard = _guard(tmp_path / "is never loaded")
    assert asyncio.run(guard.check(Passage("output", "x" * 99, final=False))) == Verdict(0)
    asyncio.run(guard.aclose())


def test_the_event_loop_goes_on_while_it_loads_and_reads(tmp_path: Path) -> None:
    guard = _guard(_save(tmp_path))

    async def scenario() -> int:
        ticks = 0
        checking = asyncio.create_task(guard.check(Passage("input", TEXT)))
        while not checking.done():
            await asyncio.sleep(0)
            ticks += 1
        await guard.aclose()
        return ticks

    assert asyncio.run(scenario()) > 5


def test_what_waits_is_given_up_in_time(tmp_path: Path) -> None:
    guard = _guard(_save(tmp_path))

    async def scenario() -> list[Verdict | Failure]:
        await guard.open()
        busy = asyncio.create_task(guard._thread.ask(lambda _loaded: time.sleep(0.5)))
        await asyncio.sleep(0)
        checks = [run_guard(guard, Passage("input", "x"), timeout=0.05) for _ in range(3)]
        found = await asyncio.gather(*checks)
        await busy
        await guard.aclose()
        return list(found)

    assert {failure.kind for failure in asyncio.run(scenario()) if isinstance(failure, Failure)} == {"timeout"}


def test_pickled_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UnsafeWeightsError, match="pickle"):
        _findings(_guard(folder), Passage("input", "x"))


def test_what_is_no_classifier_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(GuardError, match="cannot be loaded as a classifier"):
        _findings(_guard(tmp_path), Passage("input", "x"))


def test_labels_must_be_the_classifiers_own(folder: Path) -> None:
    with pytest.raises(GuardError, match="no label 'LABEL_1'") as caught:
        _findings(_guard(folder, labels={"LABEL_1": "harm"}), Passage("input", "x"))
    assert "fine, toxic, threat" in caught.value.mend


def test_a_classifier_without_numbers_is_an_error(tmp_path: Path) -> None:
    source = _save(tmp_path)
    model = BertForSequenceClassification.from_pretrained(source)
    with torch.no_grad():
        model.classifier.bias.fill_(float("nan"))
    model.save_pretrained(source)
    with pytest.raises(GuardError, match="no number"):
        _findings(_guard(source), Passage("input", "x"))


@pytest.mark.parametrize("wrong", [{"labels": {}}, {"threshold": 0}, {"source": ""}, {"label": "toxic"}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        _guard(Path("somewhere"), **wrong)
