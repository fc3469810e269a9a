"""A small course and the tokenizer trained on it."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from safetylayers.prompts import Example
from safetylayers.tiny.architecture import VOCABULARY
from safetylayers.tiny.corpus.mixture import READING, course
from safetylayers.tiny.corpus.public import PublicPrompts
from safetylayers.tiny.tokenizer import train_tokenizer


@pytest.fixture(scope="session")
def examples() -> list[Example]:
    return course(READING, 600, aligned=False, public=PublicPrompts(), seed=0, topics=True)


@pytest.fixture(scope="session")
def tokenizer(examples: list[Example]) -> PreTrainedTokenizerFast:
    return train_tokenizer((part for e in examples for part in (e.prompt, e.response)), VOCABULARY)
