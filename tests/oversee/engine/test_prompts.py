"""Requests become the tokens that the model was made for."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerBase

from oversee.engine.asking import greedy
from safetylayers.errors import EngineError
from safetylayers.oversee.engine.prompts import Prompts
from safetylayers.oversee.words import Ask, Message
from support import byte_tokenizer

STRICT = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}<|assistant|>"
)


def prompts(
    template: str = "chat", context: int | None = None, **tokenizer: str
) -> tuple[Prompts, PreTrainedTokenizerBase]:
    made = byte_tokenizer()
    for name, value in tokenizer.items():
        setattr(made, name, value)
    return Prompts(made, template, context), made


def chat(*turns: tuple[str, str], **options: object) -> Ask:
    return Ask(id="a", model="m", messages=tuple(Message(*turn) for turn in turns), **options)


def raw(text: str, **options: object) -> Ask:
    return Ask(id="a", model="m", prompt=text, **options)


def test_a_conversation_is_rendered_by_the_template() -> None:
    made, tokenizer = prompts()
    found = made.read(chat(("system", "Be short."), ("user", "Hi"), ("assistant", "Yes?"), ("user", "Why?")))
    expected = "<|system|>Be short.<|end|><|user|>Hi<|end|><|assistant|>Yes?<|end|><|user|>Why?<|end|><|assistant|>"
    assert tokenizer.decode(found.ids) == expected


def test_a_last_message_of_the_models_own_is_gone_on_with() -> None:
    made, tokenizer = prompts()
    assert tokenizer.decode(made.read(chat(("user", "Hi"), ("assistant", "Sure, "))).ids).endswith(
        "<|assistant|>Sure, "
    )


def test_what_the_template_refuses_is_told() -> None:
    made, _ = prompts(chat_template=STRICT)
    with pytest.raises(EngineError, match="System role not supported"):
        made.read(chat(("system", "Be short."), ("user", "Hi")))


def test_a_tokenizer_without_a_template_says_so() -> None:
    made, _ = prompts(chat_template="")
    with pytest.raises(EngineError, match="no chat template"):
        made.read(chat(("user", "Hi")))


def test_the_papers_template_takes_one_message_and_the_beginning_of_its_reply() -> None:
    made, tokenizer = prompts("alpaca")
    found = made.read(chat(("user", "Hi"), ("assistant", "Well")))
    assert tokenizer.decode(found.ids).endswith("### Instruction:\nHi\n\n### Response:\nWell")
    with pytest.raises(EngineError, match="single message"):
        made.read(chat(("user", "Hi"), ("assistant", "Yes?"), ("user", "Why?")))


def test_raw_text_is_taken_as_it_is() -> None:
    made, tokenizer = prompts()
    assert tokenizer.decode(made.read(raw("Once upon")).ids) == "Once upon"


def test_the_beginning_of_a_raw_text_is_set_once_where_the_tokenizer_sets_it() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = byte_tokenizer()
    tokenizer.bos_token = "<|user|>"
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|user|> $A", special_tokens=[("<|user|>", tokenizer.bos_token_id)]
    )
    made = Prompts(tokenizer, "chat", None)
    assert (
        made.read(raw("a")).ids
        == made.read(raw("<|user|>a")).ids
        == [tokenizer.bos_token_id, *tokenizer("a").input_ids[1:]]
    )
    echoed = made.read(raw("ab", echo=True))
    assert echoed.texts == ["", "a", "b"]


@pytest.mark.parametrize("text", ["Hello there", "é🌧 x", "  two  spaces \n"])
def test_echoed_texts_together_are_the_prompt(text: str) -> None:
    made, _ = prompts()
    found = made.read(raw(text, echo=True))
    assert "".join(found.texts) == text
    assert len(found.texts) == len(found.ids)


def test_too_long_a_prompt_is_refused_and_both_lengths_are_named() -> None:
    made, _ = prompts(context=10)
    with pytest.raises(EngineError, match=r"is 10 tokens long.*have 10"):
        made.read(raw("a" * 10))
    assert len(made.read(raw("a" * 9)).ids) == 9
    assert len(made.read(raw("a" * 10, sampling=greedy(max_tokens=0))).ids) == 10


@pytest.mark.parametrize("asked", [raw(""), chat(), chat(("assistant", "Sure"))])
def test_nothing_to_reply_to_is_refused(asked: Ask) -> None:
    made, _ = prompts()
    with pytest.raises(EngineError):
        made.read(asked)
