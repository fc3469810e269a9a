"""Effects, on the really trained practice model."""

from __future__ import annotations

import pytest

from safetylayers.locate import SafetyMap, locate
from safetylayers.models import ChatModel
from safetylayers.prompts import builtin


@pytest.fixture(scope="module")
def found() -> SafetyMap:
    return locate(ChatModel.load("tiny"), base=ChatModel.load("tiny-base"))


def test_the_aligned_model_has_a_range_that_is_not_the_whole_model(found: SafetyMap) -> None:
    first, last = found.range
    assert 0 <= first <= last < found.record.n_layers // 2


def test_its_gap_is_one_that_its_base_lacks(found: SafetyMap) -> None:
    assert found.record.gap.opens
    assert found.record.base_gap
    assert found.record.base_gap.peak_growth < found.record.gap.peak_growth


def test_its_probes_tell_held_out_prompts_apart(found: SafetyMap) -> None:
    first, last = found.range
    assert all(found.record.probes[layer].auroc > 0.9 for layer in range(first, last + 1))


def test_the_faithful_mode_finds_the_same_range(found: SafetyMap) -> None:
    assert locate(ChatModel.load("tiny"), mode="faithful").range == found.range


def test_the_base_model_has_no_safety_layers() -> None:
    verdict = locate(ChatModel.load("tiny-base"))
    assert not verdict.found
    assert "does not refuse" in verdict.verdict


def test_without_an_opening_that_tells_refusals_apart_text_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safetylayers.locate.search.discriminating_openings", lambda *_: ())
    small = {name: builtin(name, "calibration").take(30) for name in ("normal", "malicious", "borderline")}
    assert locate(ChatModel.load("tiny"), **small).record.counted == "text"
