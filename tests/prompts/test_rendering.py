"""From requests to what a model reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetylayers.errors import MissingChatTemplateError, ModelError, UsageError
from safetylayers.prompts import render
from safetylayers.prompts.rendering import render_messages
from support import byte_tokenizer

TOKENIZER = byte_tokenizer()


@given(st.lists(st.text(max_size=30), max_size=4))
def test_the_chat_template_ends_where_the_reply_begins(texts: list[str]) -> None:
    assert render(texts, TOKENIZER) == [f"<|user|>{text}<|end|><|assistant|>" for text in texts]


@given(st.text(max_size=30))
def test_the_alpaca_template_holds_the_request_untouched(text: str) -> None:
    (rendered,) = render([text], TOKENIZER, "alpaca")
    assert f"### Instruction:\n{text}\n\n### Response:\n" in rendered
    assert rendered.startswith("Below is an instruction")


def test_alpaca_begins_with_the_token_that_the_tokenizer_would_set() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = byte_tokenizer()
    tokenizer.bos_token = "<|user|>"
    assert render(["a"], tokenizer, "alpaca")[0].startswith("Below")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|user|> $A", special_tokens=[("<|user|>", 1)]
    )
    assert render(["a"], tokenizer, "alpaca")[0].startswith("<|user|>Below")


def test_a_tokenizer_without_a_chat_template_is_refused_but_for_alpaca() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(MissingChatTemplateError) as caught:
        render(["a"], tokenizer)
    assert "--template alpaca" in caught.value.mend
    assert render(["a"], tokenizer, "alpaca")


def test_an_unknown_template_is_refused() -> None:
    with pytest.raises(UsageError, match="'vicuna'") as caught:
        render(["a"], TOKENIZER, "vicuna")  # type: ignore[arg-type]  # the very thing that must fail
    assert "chat, alpaca" in caught.value.mend


def test_a_template_that_refuses_the_conversation_is_a_model_error() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('no system turn') }}"
    with pytest.raises(ModelError, match="no system turn"):
        render_messages([{"role": "system", "content": "s"}], tokenizer)
