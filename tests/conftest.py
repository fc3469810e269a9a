"""Small random models of every architecture, and a real small tokenizer."""

from __future__ import annotations

import pytest

from safetylayers.models import ChatModel
from support import random_chat_model


@pytest.fixture
def llama() -> ChatModel:
    """A random four-layer Llama."""
    return random_chat_model("Llama")
