"""The map as a file: bound to one model, refused when damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from safetylayers.errors import MapError, NoSafetyLayersError, OutputError, UsageError, WrongModelError
from safetylayers.locate import SafetyMap, locate
from safetylayers.locate.pages import map_page
from safetylayers.models import ChatModel, projections
from safetylayers.prompts import builtin
from safetylayers.report import render_page
from support import ARCHITECTURES, random_chat_model


@pytest.fixture(scope="module")
def model() -> ChatModel:
    return random_chat_model("Llama", vocab_size=300)


@pytest.fixture(scope="module")
def nothing_found(model: ChatModel) -> SafetyMap:
    return locate(
        model,
        normal=builtin("normal", "calibration").take(20),
        malicious=builtin("malicious", "calibration").take(20),
        borderline=builtin("borderline", "calibration").take(20),
    )


def with_range(found: SafetyMap, first: int, last: int) -> SafetyMap:
    return SafetyMap(found.record.model_copy(update={"first": first, "last": last}), found.tensors)


def test_random_weights_have_no_safety_layers(nothing_found: SafetyMap) -> None:
    assert not nothing_found.found
    assert "No safety layers: the model does not refuse" in nothing_found.verdict
    with pytest.raises(NoSafetyLayersError, match="has no safety layers"):
        _ = nothing_found.range


def test_a_map_comes_back_as_it_was_saved(tmp_path: Path, nothing_found: SafetyMap, model: ChatModel) -> None:
    loaded = SafetyMap.load(nothing_found.save(tmp_path))
    assert loaded.record == nothing_found.record
    assert loaded.tensors.keys() == nothing_found.tensors.keys()
    assert all(torch.equal(loaded.tensors[name], tensor) for name, tensor in nothing_found.tensors.items())
    loaded.check(model)


def test_directions_are_unit_vectors_one_a_layer(nothing_found: SafetyMap, model: ChatModel) -> None:
    for name in ("refusal_directions", "harm_directions"):
        found = nothing_found.tensors[name]
        assert found.shape == (model.n_layers, model.hidden_size)
        torch.testing.assert_close(found.norm(dim=1), torch.ones(model.n_layers))


def test_another_model_s_map_is_refused_with_both_names(nothing_found: SafetyMap) -> None:
    other = random_chat_model("Llama", seed=5)
    other.name = "the other one"
    with pytest.raises(WrongModelError, match=r"made for random Llama .* not for the other one"):
        nothing_found.check(other)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "map.json").unlink(), "holds no safety map"),
        (lambda folder: (folder / "map.json").write_text("{"), "damaged"),
        (lambda folder: (folder / "tensors.safetensors").write_bytes(b"no"), "damaged"),
        (lambda folder: (folder / "map.json").write_text('{"schema_version": 99}'), "version 99"),
        (lambda folder: (folder / "map.json").write_text('{"schema_version": 1}'), "damaged"),
    ],
)
def test_a_damaged_map_is_refused(tmp_path: Path, nothing_found: SafetyMap, spoil: object, message: str) -> None:
    folder = nothing_found.save(tmp_path)
    spoil(folder)  # type: ignore[operator]
    with pytest.raises(MapError, match=message) as caught:
        SafetyMap.load(folder)
    assert "safetylayers locate" in caught.value.mend


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_freezing_holds_the_range_and_nothing_else(architecture: str, nothing_found: SafetyMap) -> None:
    chat = random_chat_model(architecture)
    names = set(with_range(nothing_found, 1, 2).freeze(chat))
    held = {name for name, parameter in chat.model.named_parameters() if not parameter.requires_grad}
    expected = {id(p) for layer in chat.layers[1:3] for p in projections(layer).values()}
    assert names == held == {name for name, p in chat.model.named_parameters() if id(p) in expected}
    whole = set(with_range(nothing_found, 1, 2).freeze(chat.model, scope="layers"))
    assert whole > names


def test_a_map_without_layers_has_a_page_too(nothing_found: SafetyMap) -> None:
    assert "No safety layers" in render_page(map_page(nothing_found))


def test_too_few_prompts_are_a_usage_error(model: ChatModel) -> None:
    with pytest.raises(UsageError, match="only 3 prompts"):
        locate(model, normal=builtin("normal", "calibration").take(3))


def test_a_map_that_could_not_be_written_whole_is_no_map(tmp_path: Path, nothing_found: SafetyMap) -> None:
    folder = nothing_found.save(tmp_path)
    (folder / "tensors.safetensors").unlink()
    (folder / "tensors.safetensors").mkdir()  # in the way
    with pytest.raises(OutputError, match="cannot be written"):
        nothing_found.save(folder)
    with pytest.raises(MapError, match="holds no safety map"):
        SafetyMap.load(folder)


def test_a_shorter_model_is_not_frozen_in_part(nothing_found: SafetyMap) -> None:
    with pytest.raises(UsageError, match="no layer 9"):
        with_range(nothing_found, 2, 9).freeze(random_chat_model("Llama"))
