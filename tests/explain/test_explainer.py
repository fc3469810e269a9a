"""Explanations of the practice model, with a map and without."""

from __future__ import annotations

from pathlib import Path

import pytest

from safetylayers.errors import MissingChatTemplateError, UsageError, WrongModelError
from safetylayers.explain import Explainer, Explanation
from safetylayers.explain.overview import overview
from safetylayers.explain.saliency import METHODS
from safetylayers.explain.tokens import bare
from safetylayers.explain.trace import trace_reply
from safetylayers.locate import SafetyMap
from safetylayers.models import ChatModel
from safetylayers.prompts import Prompt, PromptSet
from support import ARCHITECTURES, random_chat_model

BOMB, CAKE = "How do I make a bomb at home?", "How do I make a cake at home?"


def test_the_harmful_word_is_what_it_is_refused_for(explainer: Explainer) -> None:
    found = explainer.explain(BOMB, methods=tuple(METHODS))
    assert found.strongest(1) == ("bomb",)
    assert "\N{LEFT DOUBLE QUOTATION MARK}bomb\N{RIGHT DOUBLE QUOTATION MARK}" in found.sentence
    by_method = {each.saliency.method: each for each in found.scores}
    assert list(by_method) == list(METHODS)
    for method in ("held-gradient", "integrated"):
        known = by_method[method].faithfulness
        assert known
        assert known.can_be_trusted
        assert known.gain_interval.low > 0
    assert by_method["occlusion"].agreement == pytest.approx(1)
    assert found.safety_layers == explainer.found.range  # type: ignore[union-attr]


def test_an_explanation_is_read_back_as_it_was_written(explainer: Explainer, tmp_path: Path) -> None:
    found = explainer.explain(CAKE, faithfulness=False)
    assert Explanation.read(found.write(tmp_path / "explanation.json")) == found
    assert found.scores[0].faithfulness is None


def test_the_same_prompt_has_the_same_explanation(explainer: Explainer) -> None:
    one, two = (explainer.explain(BOMB) for _ in range(2))
    assert one.scores[0].saliency == two.scores[0].saliency
    assert one.scores[0].faithfulness == two.scores[0].faithfulness


def test_an_explanation_that_does_no_better_than_chance_says_so(explainer: Explainer) -> None:
    found = explainer.explain(BOMB, methods=("random",))
    assert "do not rely on them" in found.sentence


def test_without_a_map_openings_are_learned_from_replies(tiny: ChatModel) -> None:
    found = Explainer(tiny).explain(BOMB, faithfulness=False)
    assert found.safety_layers is None
    assert found.verdict.refused
    assert found.verdict.probes == ()
    assert found.openings == ("I",)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_is_explained(architecture: str) -> None:
    explainer = Explainer(random_chat_model(architecture, max_position_embeddings=256))
    found = explainer.explain(BOMB, methods=("held-gradient", "occlusion"))
    assert len(found.verdict.harm) == len(found.verdict.lens.top) == 4
    assert len(found.scores[0].saliency.words) == 8
    trace = trace_reply(explainer, BOMB, "No, never.")
    assert "".join(token.text for token in trace.tokens) == "No, never."


def test_a_map_of_another_model_is_refused(tiny_map: SafetyMap) -> None:
    with pytest.raises(WrongModelError):
        Explainer(random_chat_model("Llama"), tiny_map)


def test_a_method_that_there_is_not_is_told_with_those_that_there_are(explainer: Explainer) -> None:
    with pytest.raises(UsageError, match="magic") as told:
        explainer.explain(BOMB, methods=("magic",))
    assert "occlusion" in str(told.value)
    with pytest.raises(UsageError, match="twice"):
        explainer.explain(BOMB, methods=("occlusion", "occlusion"))


def test_a_model_without_a_template_is_told_of() -> None:
    model = random_chat_model("Llama")
    model.tokenizer.chat_template = None
    with pytest.raises(MissingChatTemplateError):
        Explainer(model)


def test_a_trace_has_every_token_of_the_reply_and_its_probability(explainer: Explainer) -> None:
    found = trace_reply(explainer, BOMB)
    assert "".join(token.text for token in found.tokens).startswith("I")
    model = explainer.model
    (expected,) = model.reply_logprobs([model.tokenizer.decode(explainer.read(BOMB).token_ids)], [found.reply])
    assert [token.logprob for token in found.tokens] == pytest.approx(expected.tolist(), abs=1e-4)
    assert found.layers == tuple(range(found.layers[0], found.layers[-1] + 1))
    assert all(token.probe is not None for token in found.tokens)
    assert trace_reply(explainer, BOMB, found.reply).tokens == found.tokens


def test_an_empty_reply_has_no_trace(explainer: Explainer) -> None:
    with pytest.raises(UsageError, match="reply is empty"):
        trace_reply(explainer, BOMB, "")


def test_an_overview_names_the_words_that_prompts_are_refused_for(explainer: Explainer) -> None:
    texts = [
        (BOMB, "arms"), ("Where can I buy a bomb?", "arms"), ("How do I build a bomb?", "arms"), (CAKE, "food"),
        ("Where can I buy a cake?", "food"), ("How do I bake a cake?", "food"),
    ]  # fmt: skip
    prompts = PromptSet("six", tuple(Prompt(str(n), text, category) for n, (text, category) in enumerate(texts)))
    found = overview(explainer, prompts)
    assert found.words[0].word == "bomb"
    assert found.words[0].effect.total == 3
    assert (found.by_category["arms"].value, found.by_category["food"].value) == (1, 0)
    assert sum(found.settled) == 6
    odds = [each.refusal_log_odds for each in found.prompts]
    assert odds == sorted(odds, reverse=True)
    assert all(word.effect.total >= 2 for word in found.words)


def test_marks_around_a_word_do_not_make_it_another() -> None:
    assert [bare(word) for word in ("Bomb?", "(bomb)", "bomb", "--")] == ["bomb", "bomb", "bomb", ""]
