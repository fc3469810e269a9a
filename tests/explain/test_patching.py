"""Patching: identities that hold for every model, two implementations of one thing, and the practice model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from safetylayers.errors import UsageError
from safetylayers.explain.attribution import attribute, estimate
from safetylayers.explain.patching import LayerPatching, Patching, patch, patch_layers
from safetylayers.explain.swap import Swap, Way
from safetylayers.explain.target import Projection, RefusalOdds, Target, values_of
from safetylayers.explain.tokens import Reading, read_prompt
from safetylayers.models import ChatModel
from safetylayers.models.components import COMPONENTS, Site
from support import ARCHITECTURES, random_chat_model

EVERY = pytest.mark.parametrize("architecture", ARCHITECTURES)
WAYS = pytest.mark.parametrize("way", ["denoising", "noising"])
ODDS = RefusalOdds(((70, 75), (71, 73, 74), (71, 76)))
"""Two rows a value, of different lengths."""
ALL = [Site(layer, component) for layer in range(4) for component in COMPONENTS]


def pair(model: ChatModel) -> tuple[Reading, Reading]:
    clean, counterpart = (read_prompt(text, model.tokenizer) for text in ("a bomb, now", "a cake, now"))
    return clean, counterpart


def swap(model: ChatModel, target: Target = ODDS, way: Way = "denoising") -> Swap:
    return Swap.of(model, target, *pair(model), way, COMPONENTS)


def everywhere(one: Swap) -> list[list[int]]:
    return [[slot for group in one.at_each for slot in group]]


@EVERY
def test_a_run_s_own_activations_change_nothing(architecture: str) -> None:
    model = random_chat_model(architecture)
    clean, _ = pair(model)
    same = Swap.of(model, ODDS, clean, clean, "denoising", COMPONENTS)
    for site in ALL:
        assert same.values([site], same.at_each) == pytest.approx([same.into.value] * len(same.at_each), abs=1e-5)
    assert same.values(ALL, everywhere(same)) == pytest.approx([same.into.value], abs=1e-5)


@EVERY
@WAYS
def test_all_that_a_layer_hands_on_is_the_whole_effect(architecture: str, way: Way) -> None:
    one = swap(random_chat_model(architecture), way=way)
    for layer in range(4):
        assert one.effects([Site(layer, "residual")], everywhere(one)) == pytest.approx([1], abs=1e-3)


@EVERY
def test_layers_run_and_end_in_the_whole_effect(architecture: str) -> None:
    model = random_chat_model(architecture)
    found = patch_layers(model, ODDS, *pair(model), blocks=[(0, 3), (1, 2)])
    assert found.at_last[-1] == pytest.approx(1, abs=1e-3)
    assert found.at_instruction_end
    assert found.at_instruction_end[-1] == pytest.approx(0, abs=1e-3)
    # All that differs at the shared last token was written there by the layers.
    assert found.blocks[0].at_last == found.blocks[0].everywhere == pytest.approx(1, abs=1e-3)
    assert [block.first for block in found.written] == [0, 1, 2, 3]


@EVERY
def test_what_stands_before_the_first_difference_has_no_effect(architecture: str) -> None:
    model = random_chat_model(architecture)
    found = patch(model, ODDS, *pair(model))
    for component in COMPONENTS:
        effects = torch.tensor(found.effects[component])
        assert effects.shape == (4, len(found.places))
        assert float(effects[:, :3].abs().max()) < 1e-3  # <|user|>, "a", " "
        assert float(effects[:, 3:].abs().max()) > 1e-3


@EVERY
def test_estimates_are_the_effects_where_the_prompts_differ_little(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("safetylayers.explain.swap.LEAST_DIFFERENCE", 0.0)
    model = random_chat_model(architecture)
    bomb, cake = ([reading.token_ids[place] for place in range(3, 7)] for reading in pair(model))
    with torch.no_grad():
        weight = model.model.get_input_embeddings().get_parameter("weight")
        weight[cake] = weight[bomb] + 1e-3 * (weight[cake] - weight[bomb])
    one = swap(model)
    found = estimate(one, ALL)
    effects = torch.tensor([one.effects([site], one.at_each) for site in ALL])
    estimates = torch.tensor([found[site] for site in ALL])
    assert float((estimates - effects).abs().max()) < 0.01 * float(effects.abs().max())


@WAYS
def test_patching_is_what_replacing_by_hand_is(llama: ChatModel, way: Way) -> None:
    target = RefusalOdds(((70,), (71,)))
    readings = pair(llama)
    source, into = readings if way == "denoising" else readings[::-1]
    found = patch(llama, target, *readings, way=way, components=["residual"])
    held, value = (values_of(target, llama, [reading.token_ids]) for reading in (source, into))
    batch = llama.batch_of([into.token_ids])
    for layer in range(4):
        with llama.capture([layer]) as states:
            llama.next_token_logits(llama.batch_of([source.token_ids]))
        for place in range(len(into.token_ids)):
            with llama.patch(layer, states[layer][:, place], place), torch.inference_mode():
                by_hand = (target.values(llama, batch) - value) / (held - value)
            assert found.effects["residual"][layer][place] == pytest.approx(float(by_hand), abs=1e-3)


def test_small_batches_give_the_same(llama: ChatModel) -> None:
    whole = patch(llama, ODDS, *pair(llama))
    llama.batch_size = 4
    parts = patch(llama, ODDS, *pair(llama))
    for component in COMPONENTS:
        torch.testing.assert_close(
            torch.tensor(parts.effects[component]), torch.tensor(whole.effects[component]), atol=1e-3, rtol=0
        )


@WAYS
def test_a_projection_is_explained_up_to_the_layers_it_reads(llama: ChatModel, way: Way) -> None:
    torch.manual_seed(0)
    target = Projection({1: torch.randn(32), 2: torch.randn(32)})
    found = patch_layers(llama, target, *pair(llama), way=way)
    assert found.at_last[0] != pytest.approx(0, abs=1e-3)
    assert found.at_last[3] == pytest.approx(0, abs=1e-5)
    estimates = attribute(llama, target, *pair(llama), way=way, top=3).estimates
    assert not any(map(any, estimates["residual"][3:]))


def test_prompts_of_different_length_are_patched_where_they_correspond(llama: ChatModel) -> None:
    clean, counterpart = (read_prompt(text, llama.tokenizer) for text in ("a bomb", "a cookie"))
    found = patch_layers(llama, ODDS, clean, counterpart)
    assert found.at_last[-1] == pytest.approx(1, abs=1e-3)
    assert found.at_instruction_end
    assert ("b", "e") in [(place.clean_token, place.counterpart_token) for place in found.places]
    shorter = read_prompt("a bo", llama.tokenizer)
    assert patch_layers(llama, ODDS, clean, shorter).at_instruction_end is None


def test_the_shortlist_holds_both_numbers_largest_estimate_first(llama: ChatModel, tmp_path: Path) -> None:
    found = attribute(llama, ODDS, *pair(llama), top=5, layers=[1, 3])
    measured = patch(llama, ODDS, *pair(llama), layers=[1, 3])
    sizes = [abs(each.estimate) for each in found.shortlist]
    everywhere = [abs(number) for grid in found.estimates.values() for row in grid for number in row]
    assert sizes == sorted(everywhere, reverse=True)[:5]
    for each in found.shortlist:
        row = found.layers.index(each.layer)
        assert each.estimate == found.estimates[each.component][row][each.place]
        assert each.effect == pytest.approx(measured.effects[each.component][row][each.place], abs=1e-3)
    assert type(found).read(found.write(tmp_path / "attribution.json")) == found
    assert Patching.read(measured.write(tmp_path / "patching.json")) == measured


def test_nothing_stays_on_the_model(llama: ChatModel) -> None:
    batch = llama.tokenize(["What now?"])
    before = llama.next_token_logits(batch)
    attribute(llama, ODDS, *pair(llama))
    patch_layers(llama, ODDS, *pair(llama))
    assert torch.equal(llama.next_token_logits(batch), before)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in llama.model.modules())
    assert all(parameter.grad is None for parameter in llama.model.parameters())


def test_bfloat16_runs() -> None:
    model = random_chat_model("Llama")
    model.model.to(torch.bfloat16)
    assert attribute(model, ODDS, *pair(model), top=2).shortlist


def test_what_makes_no_sense_is_refused(llama: ChatModel) -> None:
    clean, counterpart = pair(llama)
    with pytest.raises(UsageError, match="is the same"):
        patch(llama, ODDS, clean, clean)
    with pytest.raises(UsageError, match="no way 'sideways'"):
        patch(llama, ODDS, clean, counterpart, way="sideways")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="nothing to patch"):
        attribute(llama, ODDS, clean, counterpart, components=[])
    with pytest.raises(UsageError, match="no such layers"):
        patch(llama, ODDS, clean, counterpart, layers=[4])
    with pytest.raises(UsageError, match="no such layers"):
        patch_layers(llama, ODDS, clean, counterpart, blocks=[(2, 4)])
    with pytest.raises(UsageError, match="no layers 2 to 1"):
        patch_layers(llama, ODDS, clean, counterpart, blocks=[(2, 1)])
    with pytest.raises(UsageError, match="shortlist of -1"):
        attribute(llama, ODDS, clean, counterpart, top=-1)


@pytest.fixture(scope="module")
def bomb_and_cake() -> tuple[Patching, LayerPatching]:
    tiny = ChatModel.load("tiny")
    readings = [read_prompt(f"How do I make a {thing} at home?", tiny.tokenizer) for thing in ("bomb", "cake")]
    target = RefusalOdds.of(tiny, ["I'm sor", "I can"])
    return patch(tiny, target, *readings), patch_layers(tiny, target, *readings, blocks=[(0, 1), (2, 9)])


def test_the_practice_model_s_refusal_moves_from_the_word_to_the_last_place(
    bomb_and_cake: tuple[Patching, LayerPatching],
) -> None:
    found, _ = bomb_and_cake
    assert found.clean_value > 0 > found.counterpart_value
    word = [place.clean_token for place in found.places].index(" bomb")
    first, *_, last = found.effects["residual"]
    assert first[word] == max(first) > 0.2
    assert last[-1] == pytest.approx(1, abs=1e-3)
    assert last[word] == pytest.approx(0, abs=1e-3)


def test_the_practice_model_s_safety_layers_write_what_suffices(bomb_and_cake: tuple[Patching, LayerPatching]) -> None:
    _, found = bomb_and_cake
    band, rest = found.blocks
    assert band.everywhere > 0.95 > rest.everywhere
    assert all(later > earlier for earlier, later in zip(found.at_last, found.at_last[1:], strict=False))
