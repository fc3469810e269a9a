"""One prompt's explanation: the verdict, what in the prompt moved it, and how far that can be trusted."""

from __future__ import annotations

from typing import Literal

from safetylayers.explain.faithfulness import Faithfulness
from safetylayers.explain.saliency import Saliency
from safetylayers.explain.tokens import Word, quoted
from safetylayers.explain.verdict import Verdict
from safetylayers.prompts import Template
from safetylayers.records import Provenance, Record

WORTH = 0.2
"""Of the strongest word's score: a word that pushes less is not named beside it."""


class Scored(Record):
    """One method's scores, what they are worth, and what they took."""

    saliency: Saliency
    faithfulness: Faithfulness | None = None
    agreement: float | None = None
    """Spearman's correlation of the words' scores with those of occlusion; where there are three words and more."""
    seconds: float
    """That the scores took, without what they are worth."""


class Explanation(Record):
    """Why a model does what it does with a prompt."""

    schema_version: Literal[1] = 1
    provenance: Provenance
    template: Template
    prompt: str
    tokens: tuple[str, ...]
    """Of the rendered prompt."""
    words: tuple[Word, ...]
    """Of the prompt as it was typed."""
    n_layers: int
    safety_layers: tuple[int, int] | None = None
    """First and last layer of the map; None without a map, or where it found none."""
    openings: tuple[str, ...]
    """How this model's refusals begin."""
    verdict: Verdict
    scores: tuple[Scored, ...] = ()
    """A method each; the first is the one that the page shows by itself."""

    def strongest(self, count: int = 3) -> tuple[str, ...]:
        """Return the words that push most towards what the model does, strongest first, by the first method.

        Words that push far less than the strongest one are left out.
        """
        if not self.scores:
            return ()
        towards = 1 if self.verdict.refused else -1
        scored = [(towards * score, n) for n, score in enumerate(self.scores[0].saliency.words)]
        least = WORTH * max(score for score, _ in scored)
        best = sorted((score, -n) for score, n in scored if score > 0 and score >= least)[::-1][:count]
        return tuple(self.words[-n].text for _, n in best)

    @property
    def sentence(self) -> str:
        """What was found, in a sentence or two."""
        verdict = self.verdict
        does = "refuses" if verdict.refused else "answers"
        parts = [f"The model {does} (refusal log-odds {verdict.refusal_log_odds:+.1f})."]
        if words := self.strongest():
            parts.append(f"What pushes most towards that: {quoted(words)}.")
        if verdict.refusal_settled is not None:
            side = "malicious" if verdict.refusal[-1] > 0.5 else "normal"
            parts.append(
                f"From layer {verdict.refusal_settled} on, its hidden states lie with those of {side} prompts along "
                "the refusal direction."
            )
        if (known := self.scores[0].faithfulness if self.scores else None) and not known.can_be_trusted:
            parts.append("The words' scores do no better than chance orders here: do not rely on them.")
        return " ".join(parts)
