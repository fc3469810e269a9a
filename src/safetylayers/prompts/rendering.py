"""From what a user typed to what a model reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

from safetylayers.errors import MissingChatTemplateError, ModelError, UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Template = Literal["chat", "alpaca"]
TEMPLATES: tuple[str, ...] = get_args(Template)

# The template that arXiv 2408.17003 (section 3.1) uses for every model: Stanford Alpaca's, without an input.
_ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{}\n\n### Response:\n"
)


def render(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, template: Template = "chat") -> list[str]:
    """Render requests up to the point where the reply begins.

    Args:
        texts: requests, as their users typed them.
        tokenizer: whose chat template and beginning-of-text token are used.
        template: the model's own chat template, or the paper's Alpaca template.

    Returns:
        Full texts with all special tokens written out: tokenise them with `add_special_tokens=False`.

    Raises:
        MissingChatTemplateError: "chat" was asked of a tokenizer without a chat template.
        UsageError: there is no such template.
    """
    if template == "alpaca":
        return [_beginning(tokenizer) + _ALPACA.format(text) for text in texts]
    if template != "chat":
        raise UsageError(f"There is no template {template!r}.", mend=f"Use one of: {', '.join(TEMPLATES)}.")
    return [render_messages([{"role": "user", "content": text}], tokenizer) for text in texts]


def render_messages(messages: Sequence[dict[str, str]], tokenizer: PreTrainedTokenizerBase) -> str:
    """Render a conversation by the chat template, up to the point where the next reply begins.

    Raises:
        MissingChatTemplateError: the tokenizer has no chat template.
        ModelError: the template refuses the conversation.
    """
    if not tokenizer.chat_template:
        raise MissingChatTemplateError(
            f"The tokenizer of {tokenizer.name_or_path!r} has no chat template.",
            mend="Use the Alpaca template (--template alpaca), or set tokenizer.chat_template and save the model.",
        )
    import jinja2

    try:
        return str(tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True))
    except jinja2.TemplateError as error:
        raise ModelError(
            f"The chat template of {tokenizer.name_or_path!r} refuses the conversation: {error}.",
            mend="Check the order of roles; some models take no system turn.",
        ) from error


def _beginning(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the beginning-of-text token, where the tokenizer would itself set one."""
    token, token_id = tokenizer.bos_token, tokenizer.bos_token_id
    adds_it = token_id is not None and tokenizer("a").input_ids[:1] == [token_id]
    return str(token) if adds_it else ""
