"""The prompt's words, shaded by their scores."""

from __future__ import annotations

from dataclasses import replace

from safetylayers.explain.comparison import Comparison
from safetylayers.explain.explanation import Explanation, Scored
from safetylayers.explain.pages.parts import LONG, REST, UNIT
from safetylayers.report import Columns, Fold, Paragraph, Part, ShadedText, ShadedWord

TOWARDS, AWAY = "pushes towards refusal", "pushes towards an answer"
_ESTIMATE = "Estimated by gradients: compare the words with one another, not with the log-odds."
_NOTES = {
    "held-gradient": _ESTIMATE,
    "gradient": _ESTIMATE,
    "integrated": "Estimated by gradients from mean embeddings to the words'; the scores add up to what that moves.",
    "occlusion": "Measured: by how much the log-odds fall when the word is left out.",
    "random": "Drawn at random, as a control: it explains nothing.",
}


def words(found: Explanation) -> list[Part]:
    """Return the words, shaded; tokens and other methods are folded away."""
    if not found.scores:
        return [Paragraph("No scores were asked for.")]
    first, *others = [
        _shaded(found, each, f"Words by `{each.saliency.method}`", _NOTES[each.saliency.method])
        for each in found.scores
    ]
    parts: list[Part] = [
        Paragraph(
            "A score says how far a word moves the refusal log-odds; one nat more makes the odds of a refusal 2.7 "
            "times as high."
        ),
        first,
    ]
    if len(found.tokens) > LONG:
        return [*parts, REST]
    return [
        *parts,
        Fold("Token by token, with what the chat template adds", [_tokens(found, found.scores[0])]),
        *(Fold(each.caption, [replace(each, caption="Words")]) for each in others),
    ]


def both_words(found: Comparison, names: tuple[str, str]) -> list[Part]:
    """Return the words of two explanations side by side, by each method that both have."""
    one, two = found.first, found.second
    texts = {
        its.saliency.method: Columns([_shaded(one, its, names[0]), _shaded(two, other, names[1])])
        for its in one.scores
        for other in two.scores
        if other.saliency.method == its.saliency.method
    }
    if not texts:
        return [Paragraph("No scores of both were asked for by the same method.")]
    (method, first), *others = texts.items()
    long = max(len(one.tokens), len(two.tokens)) > LONG
    return [
        Paragraph(
            f"Words by `{method}`. {_NOTES[method]} Each text has colours of its own: its strongest word has the "
            "strongest one."
        ),
        first,
        *(Fold(f"Words by `{name}`", [Paragraph(_NOTES[name]), text]) for name, text in others if not long),
        *([REST] if long else []),
    ]


def _shaded(found: Explanation, scored: Scored, caption: str, note: str = "") -> ShadedText:
    words = [ShadedWord(word.text, score) for word, score in zip(found.words, scored.saliency.words, strict=True)]
    return ShadedText(caption, words, TOWARDS, AWAY, UNIT, note)


def _tokens(found: Explanation, scored: Scored) -> ShadedText:
    own = range(found.words[0].first, found.words[-1].last + 1)
    tokens = enumerate(zip(found.tokens, scored.saliency.tokens, strict=True))
    pieces = [ShadedWord(text, score if place in own else None) for place, (text, score) in tokens]
    note = "What the template adds has no score."
    return ShadedText("Tokens of the rendered prompt", pieces, TOWARDS, AWAY, UNIT, note, joined=True)
