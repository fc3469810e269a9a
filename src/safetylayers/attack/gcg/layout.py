"""Where the suffix stands in the rendered prompt, which tokens it may hold, and which suffixes can be typed.

A suffix of tokens is no attack unless there is a text that is read as these very tokens: `sendable` decodes the whole
prompt and tokenises it again, `typed` renders the text as the target itself will.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safetylayers.errors import UsageError
from safetylayers.prompts import Template, render

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Tokens = tuple[int, ...]
_PLACE = "\ue000"


@dataclass(frozen=True)
class Layout:
    """A prompt's tokens around the suffix: before, suffix, after, and the reply that is wanted."""

    tokenizer: PreTrainedTokenizerBase
    template: Template
    request: str
    before: Tokens
    after: Tokens
    target: Tokens
    start: Tokens
    """The suffix that the search begins with."""

    @cached_property
    def _head(self) -> str:
        return str(self.tokenizer.decode(list(self.before)))

    def sendable(self, suffixes: Sequence[Tokens]) -> list[bool]:
        """Whether the prompt with each suffix, decoded and tokenised again, has the same tokens."""
        rows = [[*self.before, *suffix, *self.after] for suffix in suffixes]
        again = self.tokenizer(self.tokenizer.batch_decode(rows), add_special_tokens=False).input_ids
        return [bool(read == row) for read, row in zip(again, rows, strict=True)]

    def typed(self, suffix: Tokens) -> str | None:
        """Return the request with the suffix as a user types it; none where the template makes other tokens of it."""
        text = str(self.tokenizer.decode([*self.before, *suffix]))
        if not text.startswith(self._head):
            return None
        attacked = self.request + text.removeprefix(self._head)
        (rendered,) = render([attacked], self.tokenizer, self.template)
        tokens = self.tokenizer(rendered, add_special_tokens=False).input_ids
        return attacked if tokens == [*self.before, *suffix, *self.after] else None


def lay_out(
    tokenizer: PreTrainedTokenizerBase, template: Template, request: str, *, initial: str, length: int, target: str
) -> Layout:
    """Find the suffix's place in the rendered prompt.

    Args:
        tokenizer: of the target.
        template: that its prompts are rendered by.
        request: to which the suffix is added.
        initial: text that is repeated until it has `length` tokens.
        length: of the suffix.
        target: how the reply is to begin.

    Raises:
        UsageError: the initial text does not keep its tokens behind this request, or the target has none.
    """
    (rendered,) = render([request + _PLACE], tokenizer, template)
    before, _, after = rendered.partition(_PLACE)

    def tokens(text: str) -> Tokens:
        return tuple(tokenizer(text, add_special_tokens=False).input_ids) if text else ()

    middle = tokens(before + initial * length)[len(tokens(before)) :][:length]
    found = Layout(tokenizer, template, request, tokens(before), tokens(after), tokens(target), middle)
    if not found.target:
        raise UsageError("The target is empty: no reply begins with nothing.", mend="Give a compliant opening.")
    if len(middle) < length or found.typed(middle) is None:
        raise UsageError(
            f"The suffix {initial!r} x {length} does not keep its tokens behind the request {request!r}.",
            mend="Begin with another text: a word or sign with a space before it, such as ' !' or ' x'.",
        )
    return found


def allowed_tokens(tokenizer: PreTrainedTokenizerBase, rows: int) -> Tensor:
    """Return which rows of the embeddings a suffix may hold, [V]: printable ASCII that is no special token.

    Args:
        tokenizer: of the target.
        rows: of its embeddings; models often have more than their tokenizer has tokens.
    """
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    texts = tokenizer.batch_decode([[token] for token in range(min(rows, len(tokenizer)))])
    allowed = [token not in special and text.isascii() and text.isprintable() for token, text in enumerate(texts)]
    return torch.tensor(allowed + [False] * (rows - len(allowed)))
