"""Paraphrase: the model reads the prompt in another model's words (arXiv 2309.00614, section 4.2).

A paraphraser keeps what is asked and drops what is noise. It reads the attack itself, though, and can be talked round
like any model; and what is worded with care (code, quotations) comes back in other words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from safetylayers.errors import UsageError
from safetylayers.harden.perturb.passing import Passes, reply_where, titled
from safetylayers.records import ProgressCallback
from safetylayers.targets import Reply, Target

REQUEST = "Paraphrase the following request, and write nothing else:\n\n{}"
_PLACE = "{}"


@dataclass(frozen=True)
class Paraphrase:
    """Asks the target what another one made of the prompt.

    Where the paraphraser withholds its reply or says nothing, the prompt is refused.
    """

    target: Target
    paraphraser: Target
    """A server as `UrlTarget(client)`, a model here as `ModelTarget(model)`; its `max_new_tokens` has to be enough."""
    request: str = REQUEST
    """What the paraphraser is asked, with {} where the prompt belongs."""

    def __post_init__(self) -> None:
        """Raise UsageError where the prompt has no place."""
        if self.request.count(_PLACE) != 1:
            raise UsageError(
                "The paraphraser's request has no place for the prompt.", mend="Write {} once, where it belongs."
            )

    @property
    def name(self) -> str:
        """The target's name with the paraphraser's, and what it is asked."""
        return titled(self.target, "paraphrase", by=self.paraphraser.name, request=repr(self.request))

    @property
    def weights_hash(self) -> str:
        """The target's."""
        return self.target.weights_hash

    def passes(self) -> Passes:
        """Return what a prompt takes: a paraphrase and a reply."""
        return Passes(replies=2)

    def reply(
        self,
        prompts: Sequence[str],
        *,
        openings: Sequence[str] | None = None,
        progress: ProgressCallback | None = None,
    ) -> list[Reply]:
        """Return the target's replies to the paraphrases. Raises what either of them does."""
        asked = [self.request.replace(_PLACE, prompt) for prompt in prompts]
        others = self.paraphraser.reply(asked, progress=progress)
        texts = [other.text.strip() for other in others]
        passed = [bool(text) and not other.withheld for text, other in zip(texts, others, strict=True)]
        replies = reply_where(self.target, texts, openings, passed, [other.tokens for other in others], progress)
        return [
            replace(reply, queries=other.queries + (reply.queries if passes else 0))
            for reply, other, passes in zip(replies, others, passed, strict=True)
        ]
