"""Two explanations side by side: two prompts, or one prompt in two models."""

from __future__ import annotations

from pathlib import Path

import pytest

from safetylayers.errors import UsageError
from safetylayers.explain import Comparison, Explainer, Explanation, compare
from safetylayers.explain.comparison import MOVED, parted, together
from safetylayers.explain.verdict import Verdict
from safetylayers.models import ChatModel
from support import random_chat_model

BOMB, CAKE = "How do I make a bomb at home?", "How do I make a cake at home?"
FAR = MOVED + 0.01


@pytest.fixture(scope="module")
def bomb(explainer: Explainer) -> Explanation:
    return explainer.explain(BOMB, faithfulness=False)


@pytest.fixture(scope="module")
def base(explainer: Explainer) -> Explainer:
    """The practice model before it was aligned, by the aligned one's yardstick."""
    return explainer.beside(ChatModel.load("tiny-base"))


def changed(found: Explanation, **verdict: object) -> Explanation:
    """The explanation of another model, which differs in its verdict."""
    other = Verdict.model_validate(found.verdict.model_dump() | verdict)
    provenance = found.provenance.model_copy(update={"model_hash": "another"})
    return found.model_copy(update={"verdict": other, "provenance": provenance})


@pytest.mark.parametrize(
    ("before", "after", "layer"),
    [
        ((), (), None),
        ((0.5, 0.5), (0.5, 0.5), None),
        ((0, 0, 0), (FAR, FAR, FAR), 0),
        ((0, 0, 0), (0, FAR, FAR), 1),
        ((0, 0, 0), (0, -FAR, -FAR), 1),
        ((0, 0, 0), (FAR, 0, FAR), 2),
        ((0, 0, 0), (FAR, FAR, 0), None),
        ((0, 0), (MOVED, MOVED), None),
    ],
)
def test_curves_part_at_the_layer_from_which_on_they_lie_apart(
    before: tuple[float, ...], after: tuple[float, ...], layer: int | None
) -> None:
    assert parted(before, after) == layer
    assert parted(after, before) == layer


def test_curves_that_lay_apart_are_not_said_to_have_stayed_together() -> None:
    assert together((0, 0, 0), (0, FAR, FAR)) == "part at layer 1"
    assert together((0, 0, 0), (FAR, 1.0, 0)) == "lie furthest apart at layer 1 and end together"
    assert together((0, 0), (MOVED, 0)) == "stay together"


def test_two_prompts(explainer: Explainer, bomb: Explanation, tmp_path: Path) -> None:
    found = compare(bomb, explainer.explain(CAKE, faithfulness=False))
    assert found.kind == "prompts"
    assert found.sentence.startswith("The model refuses the first prompt and answers the second (refusal log-odds +")
    assert Comparison.read(found.write(tmp_path / "comparison.json")) == found


def test_two_prompts_of_which_the_same_is_true(explainer: Explainer, bomb: Explanation) -> None:
    found = compare(bomb, explainer.explain("How do I make a gun at home?", faithfulness=False))
    assert found.sentence.startswith("The model refuses both prompts (refusal log-odds +")


def test_the_same_prompt_in_two_models(explainer: Explainer, base: Explainer, bomb: Explanation) -> None:
    other = base.explain(BOMB, faithfulness=False)
    assert (other.openings, other.safety_layers) == (bomb.openings, bomb.safety_layers)
    assert other.provenance.model == "tiny-base"
    found = compare(bomb, other)
    assert found.kind == "models"
    assert found.sentence.startswith("The first model refuses, the second answers (")
    layer = parted(bomb.verdict.refusal, other.verdict.refusal)
    assert layer is not None
    assert f"Along the refusal direction they part at layer {layer}." in found.sentence


def test_what_explains_a_second_model_leaves_the_first_ones_alone(explainer: Explainer, base: Explainer) -> None:
    assert explainer.model.name == "tiny"
    assert base.scales is explainer.scales
    assert base.target is explainer.target


def test_models_part_where_their_curves_do(bomb: Explanation) -> None:
    layers, harm = len(bomb.verdict.harm), bomb.verdict.harm
    moved = changed(bomb, harm=[*harm[:4], *(share + FAR for share in harm[4:])])
    sentence = compare(bomb, moved).sentence
    assert sentence.startswith("Both models refuse (")
    assert "Along the harm direction they part at layer 4." in sentence
    assert "Along the refusal direction they stay together." in sentence
    assert layers > 4


def test_a_model_is_compared_with_one_of_the_same_weights_as_with_any_other(bomb: Explanation) -> None:
    assert compare(bomb, bomb).kind == "models"


def test_another_prompt_in_another_model_shows_nothing(base: Explainer, bomb: Explanation) -> None:
    with pytest.raises(UsageError, match="two prompts and of two models") as told:
        compare(bomb, base.explain(CAKE, faithfulness=False))
    assert "one of the two" in told.value.mend


def test_models_of_another_shape_are_no_pair(explainer: Explainer, bomb: Explanation) -> None:
    with pytest.raises(UsageError, match="no changed copy of tiny") as told:
        explainer.beside(random_chat_model("Llama"))
    assert "fine-tune" in told.value.mend
    with pytest.raises(UsageError, match=f"have {bomb.n_layers} and 3 layers"):
        compare(bomb, changed(bomb).model_copy(update={"n_layers": 3}))


def test_explanations_by_two_yardsticks_are_no_pair(bomb: Explanation) -> None:
    for other in ({"openings": ("Sure",)}, {"template": "alpaca"}):
        with pytest.raises(UsageError, match="made with other openings") as told:
            compare(bomb, bomb.model_copy(update=other))
        assert "Explainer.beside" in told.value.mend
    without_map = bomb.provenance.model_copy(update={"data": {}})
    with pytest.raises(UsageError, match="another map"):
        compare(bomb, bomb.model_copy(update={"provenance": without_map}))
