"""The page of an evaluation."""

from __future__ import annotations

from safetylayers.evaluate import evaluate
from safetylayers.evaluate.pages import evaluation_page
from safetylayers.prompts import PromptSet, builtin
from safetylayers.report import render_page
from support import random_chat_model


def few(name: str) -> PromptSet:
    return builtin(name, "test").take(4)


def test_every_model_judge_and_change_is_shown() -> None:
    models = [random_chat_model("Llama", seed=seed) for seed in (0, 1)]
    models[0].name, models[1].name = "first <b>", "second"
    found = evaluate(
        models, malicious=few("malicious"), borderline=few("borderline"), normal=few("normal"),
        questions=few("questions"), max_new_tokens=4,
    )  # fmt: skip
    page = render_page(evaluation_page(found))
    assert "first &lt;b&gt;" in page
    assert "first <b>" not in page
    for part in ("second", "phrases", "patterns", "Change against", "harmful rate"):
        assert part in page


def test_a_single_model_has_no_changes() -> None:
    found = evaluate(
        [random_chat_model("Llama")], malicious=few("malicious"), borderline=few("borderline"),
        normal=few("normal"), questions=few("questions"), max_new_tokens=4,
    )  # fmt: skip
    assert "Change against" not in render_page(evaluation_page(found))
