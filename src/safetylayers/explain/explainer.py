"""From a model and a prompt to an explanation."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from safetylayers.errors import UsageError
from safetylayers.evaluate import PhraseJudge
from safetylayers.evaluate import Verdict as Judged
from safetylayers.evaluate.log_odds import DEFAULT_OPENINGS, discriminating_openings
from safetylayers.explain.directions import Scales
from safetylayers.explain.explanation import Explanation, Scored
from safetylayers.explain.faithfulness import Measured
from safetylayers.explain.saliency import DEFAULT, METHODS, Explained, Saliency
from safetylayers.explain.target import RefusalOdds, Target
from safetylayers.explain.tokens import Reading, read_prompt
from safetylayers.explain.verdict import judge
from safetylayers.prompts import Template, builtin, render
from safetylayers.prompts.prompt_set import content_hash
from safetylayers.records import ProgressCallback, Provenance

if TYPE_CHECKING:
    from safetylayers.locate import SafetyMap
    from safetylayers.models import ChatModel

LEARNED = 40
"""Built-in malicious prompts whose replies tell how refusals begin, where no map does."""


class Explainer:
    """Explains what one model does; what all its explanations share is read once."""

    def __init__(
        self,
        model: ChatModel,
        found: SafetyMap | None = None,
        *,
        template: Template | None = None,
        openings: Sequence[str] = (),
        progress: ProgressCallback | None = None,
    ) -> None:
        """Read the built-in calibration prompts, for the scales and, without a map, for how refusals begin.

        Args:
            model: that is explained.
            found: its safety map: the band, the directions, the probes, how refusals begin.
            template: by itself the map's, else "chat".
            openings: how the model's refusals begin, where that is known better.
            progress: told after each batch.

        Raises:
            WrongModelError: the map is another model's.
            UsageError: an opening begins another one.
        """
        if found:
            found.check(model)
        self.model, self.found = model, found
        self.template: Template = template or (found.record.template if found else "chat")
        self.openings = tuple(openings) or _openings(model, found, self.template, progress)
        self.target = RefusalOdds.of(model, self.openings)
        self.scales = Scales.read(model, self.template, found, progress=progress)

    def beside(self, changed: ChatModel) -> Explainer:
        """Return what explains a changed copy of the model, such as a fine-tune, by the same yardstick.

        Openings, directions, scales and probes stay those of the first model, so that two explanations differ by what
        the model does alone.

        Raises:
            UsageError: it is no copy: its layers or its tokens are others.
        """
        mine = self.model
        same_shape = (changed.n_layers, changed.hidden_size) == (mine.n_layers, mine.hidden_size)
        if not same_shape or changed.tokenizer.get_vocab() != mine.tokenizer.get_vocab():
            raise UsageError(
                f"{changed.name} is no changed copy of {mine.name}: its layers or its tokens are others.",
                mend="Compare a model with its own fine-tune, or explain each by itself.",
            )
        other = copy.copy(self)
        other.model = changed
        return other

    def read(self, prompt: str) -> Reading:
        """Return a prompt as this model reads it. Raises UsageError."""
        return read_prompt(prompt, self.model.tokenizer, self.template)

    def explain(
        self,
        prompt: str,
        *,
        methods: Sequence[str] = (DEFAULT,),
        target: Target | None = None,
        faithfulness: bool = True,
        seed: int = 0,
    ) -> Explanation:
        """Explain one prompt.

        Args:
            prompt: as its user typed it.
            methods: of saliency, the most important one first.
            target: what the words are scored for, by itself the refusal log-odds.
            faithfulness: measure how far the scores can be trusted, which takes more passes than the scores do.
            seed: of random orders.

        Raises:
            UsageError: there is no such method, or the prompt cannot be read.
        """
        check_methods(methods)
        reading = self.read(prompt)
        given = Explained(self.model, target or self.target, reading)
        found = self.found
        band = found.range if found and found.found else None
        return Explanation(
            provenance=self.provenance(prompt, seed),
            template=self.template,
            prompt=prompt,
            tokens=reading.tokens,
            words=reading.words,
            n_layers=self.model.n_layers,
            safety_layers=band,
            openings=self.openings,
            verdict=judge(self.model, reading, self.target, self.scales, found),
            scores=tuple(scored(given, methods, faithfulness=faithfulness, seed=seed)),
        )

    def provenance(self, prompt: str, seed: int = 0) -> Provenance:
        """Return what it takes to make a result about a prompt again."""
        data = {"prompt": content_hash([[prompt]])}
        if self.found:
            data["map"] = self.found.content_hash
        return Provenance(model=self.model.name, model_hash=self.model.weights_hash, data=data, seed=seed)


def check_methods(methods: Sequence[str]) -> None:
    """Raise UsageError where a method is none, or named twice."""
    if unknown := [name for name in methods if name not in METHODS]:
        raise UsageError(f"There is no method {unknown[0]!r}.", mend=f"Use one of: {', '.join(METHODS)}.")
    if len(set(methods)) < len(methods):
        raise UsageError("A method is named twice.", mend="Name it once.")


def scored(given: Explained, methods: Sequence[str], *, faithfulness: bool, seed: int = 0) -> list[Scored]:
    """Return each method's scores of one prompt, and what they are worth."""
    if not methods:
        return []
    found, seconds = [], []
    for name in methods:
        begun = time.perf_counter()
        found.append(METHODS[name](given))
        seconds.append(time.perf_counter() - begun)
    if not faithfulness:
        return [Scored(saliency=each, seconds=took) for each, took in zip(found, seconds, strict=True)]
    measured = Measured(given, seed=seed)
    occluded = next((each for each in found if each.method == "occlusion"), None) or METHODS["occlusion"](given)
    return [
        Scored(
            saliency=each,
            faithfulness=measured.measure(each.words),
            agreement=_agreement(each, occluded),
            seconds=took,
        )
        for each, took in zip(found, seconds, strict=True)
    ]


def _agreement(one: Saliency, other: Saliency) -> float | None:
    from scipy.stats import spearmanr

    if len(one.words) < 3 or len(set(one.words)) == 1 or len(set(other.words)) == 1:
        return None
    return float(np.asarray(spearmanr(one.words, other.words).statistic))


def _openings(
    model: ChatModel, found: SafetyMap | None, template: Template, progress: ProgressCallback | None
) -> tuple[str, ...]:
    """Return how the model's refusals begin: as the map says, else as its replies show, else as refusals mostly do."""
    if found and found.record.openings:
        return found.record.openings
    asked = [p.text for kind in ("malicious", "normal") for p in list(builtin(kind, "calibration"))[:LEARNED]]
    replies = model.generate(render(asked, model.tokenizer, template), max_new_tokens=8, progress=progress)
    refused = [each is Judged.REFUSED for each in PhraseJudge().judge(asked, replies)]
    return discriminating_openings(model, replies, refused) or DEFAULT_OPENINGS
