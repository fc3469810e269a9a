"""From what is asked to the tokens that the model reads."""

from __future__ import annotations

import copy
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from safetylayers.errors import PromptError, SafetyLayersError
from safetylayers.oversee.words import Ask, Message
from safetylayers.prompts import Template, render
from safetylayers.prompts.rendering import render_messages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Prompt(NamedTuple):
    """A request, ready to be read."""

    ids: list[int]
    texts: list[str]
    """Each token's text, where the prompt is to be echoed; together they are the prompt."""


class Prompts:
    """Renders and tokenises requests, from any thread.

    It has a tokenizer of its own: one that tokenises in one thread must not be used in another.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: Template, context: int | None) -> None:
        """Use a copy of a tokenizer.

        Args:
            tokenizer: the model's.
            template: what messages are rendered by.
            context: so many tokens fit into the model, prompt and reply together; None for any number.
        """
        self._tokenizer = copy.deepcopy(tokenizer)
        self._template: Template = template
        self.context = context
        self._lock = Lock()

    def read(self, ask: Ask) -> Prompt:
        """Return a request's tokens.

        Raises:
            PromptError: it is empty or too long, or the template refuses it.
        """
        with self._lock:
            text, adds = (self._rendered(ask.messages), False) if ask.prompt is None else (ask.prompt, True)
            prompt = self._tokenised(text, adds and not self._has_beginning(text), echo=ask.echo)
        if not prompt.ids:
            raise PromptError("The prompt is empty: it has no token.", mend="Ask something.")
        if self.context is not None and len(prompt.ids) + min(ask.sampling.max_tokens, 1) > self.context:
            raise PromptError(
                f"The prompt is {len(prompt.ids)} tokens long; prompt and reply together may have {self.context}.",
                mend="Shorten the prompt.",
            )
        return prompt

    def _rendered(self, messages: tuple[Message, ...]) -> str:
        """Render a conversation; where the last message is the model's own, it is to be gone on with."""
        given = messages[-1].content if messages and messages[-1].role == "assistant" else ""
        asked = messages[:-1] if given else messages
        if not asked:
            raise PromptError("There is nothing to reply to.", mend="Give at least one message of the user's.")
        try:
            return self._template_of(asked) + given
        except SafetyLayersError as error:
            raise PromptError(error.message, mend=error.mend) from error
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise PromptError("The chat template cannot render this conversation.", mend="See its roles.") from error

    def _template_of(self, messages: tuple[Message, ...]) -> str:
        if self._template == "chat":
            return render_messages([{"role": m.role, "content": m.content} for m in messages], self._tokenizer)
        if len(messages) > 1 or messages[0].role != "user":
            raise PromptError(
                f"The template {self._template!r} renders a single message of the user's.",
                mend="Send one message, or a raw prompt.",
            )
        return render([messages[0].content], self._tokenizer, self._template)[0]

    def _has_beginning(self, text: str) -> bool:
        beginning = self._tokenizer.bos_token
        return bool(beginning) and text.startswith(str(beginning))

    def _tokenised(self, text: str, adds_special: bool, *, echo: bool) -> Prompt:
        """Tokenise; a raw prompt gets the special tokens that its tokenizer sets by itself."""
        options = {"add_special_tokens": adds_special, "verbose": False}
        if not echo:
            return Prompt(self._tokenizer(text, **options).input_ids, [])
        if not self._tokenizer.is_fast:
            ids = self._tokenizer(text, **options).input_ids
            return Prompt(ids, [str(self._tokenizer.decode([token])) for token in ids])
        found = self._tokenizer(text, return_offsets_mapping=True, **options)
        return Prompt(found.input_ids, _pieces(text, found.offset_mapping))


def _pieces(text: str, offsets: list[tuple[int, int]]) -> list[str]:
    """Return each token's text; of tokens that share a character, the first one has it."""
    pieces, shown = [], 0
    for _, end in offsets:
        pieces.append(text[shown:end])
        shown = max(shown, end)
    return pieces
