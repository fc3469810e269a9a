"""Small random models of every architecture, and a real small tokenizer."""

from __future__ import annotations

import gc

import pytest

from safetylayers.models import ChatModel
from support import random_chat_model


def pytest_collection_finish() -> None:
    """Keep what is loaded out of garbage collection, as the server does.

    With torch and every test loaded a full collection stops the process for more than half a second, which to a
    gateway under test is a replica that has lost its lease.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
def llama() -> ChatModel:
    """A random four-layer Llama."""
    return random_chat_model("Llama")
