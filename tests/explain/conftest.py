"""The practice model with its map, read once."""

from __future__ import annotations

import pytest

from safetylayers.explain import Explainer
from safetylayers.locate import SafetyMap, locate
from safetylayers.models import ChatModel
from safetylayers.prompts import builtin


@pytest.fixture(scope="session")
def tiny() -> ChatModel:
    """The practice model."""
    return ChatModel.load("tiny")


@pytest.fixture(scope="session")
def tiny_map(tiny: ChatModel) -> SafetyMap:
    """Its safety map, of few prompts."""
    few = {name: builtin(name, "calibration").sample(40, 0) for name in ("normal", "malicious", "borderline")}
    return locate(tiny, **few)  # type: ignore[arg-type]  # mypy does not see that no other option is in it


@pytest.fixture(scope="session")
def explainer(tiny: ChatModel, tiny_map: SafetyMap) -> Explainer:
    """What explains the practice model, with its map."""
    return Explainer(tiny, tiny_map)
