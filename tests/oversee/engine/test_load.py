"""A model is watched by what lies beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from safetylayers.attach.folder import save_with_model
from safetylayers.errors import MapError, WrongModelError
from safetylayers.locate import SafetyMap, locate
from safetylayers.models import ChatModel
from safetylayers.oversee.engine.load import load_engine
from safetylayers.prompts import builtin
from support import random_chat_model, safety_layers


@pytest.fixture(scope="module")
def tiny() -> ChatModel:
    return ChatModel.load("tiny")


def test_a_bare_model_is_not_watched() -> None:
    engine = load_engine("tiny")
    assert (engine.models, engine.watched_by, engine.steers) == (("tiny",), None, False)


def test_layers_in_the_folder_watch_and_steer(tiny: ChatModel, tmp_path: Path) -> None:
    save_with_model(tiny, safety_layers(tiny), tmp_path / "guarded")
    engine = load_engine(tmp_path / "guarded", names=("one", "two"))
    assert engine.models == ("one", "two")
    assert engine.watched_by == "trained safety layers (layers 1-2)"
    assert engine.steers


def test_layers_of_another_model_are_refused(tiny: ChatModel, tmp_path: Path) -> None:
    save_with_model(tiny, safety_layers(tiny), tmp_path)
    safety_layers(random_chat_model("Llama")).save(tmp_path)
    with pytest.raises(WrongModelError):
        load_engine(tmp_path)


def test_a_map_alone_watches_and_does_not_steer(tiny: ChatModel, tmp_path: Path) -> None:
    small = {name: builtin(name, "calibration").take(24) for name in ("normal", "malicious", "borderline")}
    found: SafetyMap = locate(tiny, **small)
    found.save(tmp_path)
    engine = load_engine("tiny", map_folder=tmp_path)
    assert engine.watched_by is not None
    assert engine.watched_by.startswith("the map's probes (layer")
    assert not engine.steers


def test_a_folder_without_a_map_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MapError):
        load_engine("tiny", map_folder=tmp_path)
