"""Where the user's own words stand in a rendered prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from safetylayers.errors import UsageError
from safetylayers.prompts import Template, render

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PLACE = "\ue000"


class Framed(NamedTuple):
    """A rendered prompt in three parts; only the middle is the user's."""

    before: str
    text: str
    """As the template writes it: some strip spaces."""
    after: str


def framed(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, template: Template) -> list[Framed]:
    """Render requests and take them apart.

    Raises:
        MissingChatTemplateError: "chat" was asked of a tokenizer without a chat template.
        UsageError: the template writes something else around other requests.
    """
    place, *rendered = render([_PLACE, *texts], tokenizer, template)
    before, _, after = place.partition(_PLACE)
    if not all(each.startswith(before) and each.endswith(after) for each in rendered):
        raise UsageError(
            f"The template of {tokenizer.name_or_path!r} depends on what is asked: the request's place is unknown.",
            mend="Use the Alpaca template (--template alpaca).",
        )
    return [Framed(before, each[len(before) : len(each) - len(after)], after) for each in rendered]
