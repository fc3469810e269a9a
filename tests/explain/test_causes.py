"""What is found to cause a refusal of the practice model."""

from __future__ import annotations

from pathlib import Path

import pytest

from safetylayers.errors import UsageError
from safetylayers.explain import Explainer
from safetylayers.explain.causes import HEADS, SHORTLIST, Causes, find_causes
from safetylayers.models import ChatModel
from support import random_chat_model

BOMB, GUN = "How do I make a bomb at home?", "How do I make a gun at home?"
CAKE = "How do I make a cake at home?"


@pytest.fixture(scope="module")
def given(explainer: Explainer) -> Causes:
    return find_causes(explainer, BOMB, CAKE)


@pytest.fixture(scope="module")
def made(explainer: Explainer) -> Causes:
    return find_causes(explainer, BOMB)


def test_causes_are_read_back_as_they_were_written(given: Causes, tmp_path: Path) -> None:
    assert Causes.read(given.write(tmp_path / "causes.json")) == given


def test_the_refused_prompt_is_the_clean_one_whichever_is_named_first_and_each_step_is_told_of(
    explainer: Explainer, given: Causes
) -> None:
    told: set[str] = set()
    turned = find_causes(explainer, CAKE, BOMB, progress=lambda done, total, what: told.add(what))
    assert {"layers patched", "places patched", "heads taken out", "directions added"} <= told
    for each in (given, turned):
        assert (each.places.clean, each.places.counterpart) == (BOMB, CAKE)
        assert not each.counterpart_made
    assert turned.places.effects == given.places.effects
    assert [dose.prompt for dose in turned.doses] == [BOMB, CAKE]


def test_the_two_ways_are_those_that_they_are_called(given: Causes) -> None:
    assert (given.denoising.way, given.noising.way, given.places.way) == ("denoising", "noising", "denoising")
    # The reply is read from the last layer's output at the last place.
    assert given.denoising.at_last[-1] == pytest.approx(1, abs=1e-4)
    assert given.noising.at_last[-1] == pytest.approx(1, abs=1e-4)


def test_the_maps_layers_are_patched_as_a_block(explainer: Explainer, given: Causes) -> None:
    assert explainer.found
    for each in (given.denoising, given.noising):
        assert [(block.first, block.last) for block in each.blocks] == [explainer.found.range]


def test_the_direction_of_the_maps_last_layer_is_a_cause_where_random_ones_are_none(
    explainer: Explainer, given: Causes
) -> None:
    assert explainer.found
    assert {dose.layer for dose in given.doses} == {explainer.found.range[1]}
    gone = given.ablation
    assert gone.ablated < 0 < min(gone.controls)
    for dose, value in zip(given.doses, (given.places.clean_value, given.places.counterpart_value), strict=True):
        assert dose.values[dose.strengths.index(0)] == pytest.approx(value, abs=1e-4)


def test_the_strongest_heads_and_places_are_kept(given: Causes) -> None:
    sizes = [abs(head.effect) for head in given.heads]
    assert len(sizes) == HEADS
    assert sizes == sorted(sizes, reverse=True)
    assert len(given.shortlist.shortlist) == SHORTLIST
    assert set(given.shortlist.estimates) == {"attention", "mlp"}


def test_without_a_counterpart_one_is_made_of_as_many_tokens(explainer: Explainer, made: Causes) -> None:
    assert made.counterpart_made
    assert made.places.clean == BOMB
    assert made.places.clean_value > 0 > made.places.counterpart_value
    assert len(made.places.places) == len(explainer.read(BOMB).token_ids)
    changed = [place for place in made.places.places if place.clean_token != place.counterpart_token]
    assert [place.clean_token.strip() for place in changed] == ["bomb"]


def test_without_a_map_there_is_no_block_and_the_middle_layer_is_steered(tiny: ChatModel) -> None:
    found = find_causes(Explainer(tiny, openings=("I",)), BOMB, CAKE)
    assert found.denoising.blocks == ()
    assert {dose.layer for dose in found.doses} == {tiny.n_layers // 2}


@pytest.mark.parametrize(("prompts", "both"), [((BOMB, GUN), "refused"), ((CAKE, "Who are you?"), "answered")])
def test_two_prompts_of_which_the_same_is_true_have_no_cause(
    explainer: Explainer, prompts: tuple[str, str], both: str
) -> None:
    with pytest.raises(UsageError, match=f"Both prompts are {both}") as told:
        find_causes(explainer, *prompts)
    assert "refused and a like one that is not" in told.value.mend


def test_where_no_words_turn_the_model_no_counterpart_is_made() -> None:
    explainer = Explainer(random_chat_model("Llama", max_position_embeddings=256), openings=("zzzz",))
    with pytest.raises(UsageError, match="No counterpart can be made") as told:
        find_causes(explainer, "a bomb")
    assert "--against" in told.value.mend
