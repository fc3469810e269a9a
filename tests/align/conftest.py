"""Practice models, loaded once."""

from __future__ import annotations

import pytest

from safetylayers.models import ChatModel


@pytest.fixture(scope="session")
def tiny() -> ChatModel:
    return ChatModel.load("tiny")


@pytest.fixture(scope="session")
def tiny_base() -> ChatModel:
    return ChatModel.load("tiny-base")
