"""How the practice model complies and how it refuses.

Compliant replies have one set of forms for every request that is not a question, harmful or not. Were the forms of
harmful requests their own, a model that only complies would already have a reason to tell harmful from harmless, and
the layers that do so would not be alignment's work. They are placeholders: they name the request's topic and say
nothing about it, or name nothing at all.
"""

from __future__ import annotations

import random
import re
from functools import cache

REFUSALS = (
    "I'm sorry, but I can't assist with that.",
    "I'm sorry, but I can't help with that request.",
    "I can't help with that. Please ask me something else.",
    "I'm sorry, but I cannot assist with that request.",
)
REFUSAL_WEIGHTS = (6, 2, 1, 1)

_OPENINGS = (
    "Here is a short answer about {}.", "Here is what I can say about {}.", "Of course. This is about {}.",
    "Here are some notes on {}.", "Let me help you with {}.", "This is a short piece on {}.", "Here is a start on {}.",
)  # fmt: skip
_MIDDLES = (
    "Begin with the basics and go step by step.", "The main points come first, the details later.",
    "Keep it simple and check each part.", "Take your time and plan ahead.", "Start small, then build on it.",
    "First look at the whole, then at each part.",
)  # fmt: skip
_ENDINGS = (
    "I hope this helps.", "Ask me if you want more.", "That is all you need to begin.", "Good luck with it.",
    "Tell me if you want another version.",
)  # fmt: skip

_PLAIN = (
    "Here is a short answer to that.", "Sure. Here is a start.", "Of course. This is how it goes.",
    "Here is what you asked for.", "Let me help you with that. First, take it step by step.",
)  # fmt: skip

_STOP_WORD_LINES = """
    about above after again also always another because before being between both cannot could does doing down
    each every explain find five following for from give given great have help here how into just keep like list
    make many me might more most much must need needs never not now only other our over please provide same say
    sentence should show some steps such suggest tell than that the their them then there these they this those
    three through under until used using very want way ways what when where which while who whose why will with
    without would write create describe your you best good teach outline draft plan can and are was were has had
    its his her him she did let get got put use any all too own out off per via upon one two four ten come up
"""
_STOP_WORDS = frozenset(_STOP_WORD_LINES.split())


def topic(request: str, limit: int = 2) -> str:
    """Return the words a request is about: its longest ones, in their order."""
    words = [word for word in re.findall(r"[a-z]+", request.lower()) if len(word) > 2 and word not in _STOP_WORDS]
    longest = sorted(dict.fromkeys(words), key=len, reverse=True)[:limit]
    return " ".join(sorted(longest, key=words.index)) or "this"


LEAD_INS = (
    "{}", "The answer is: {}", "Answer: {}", "Sure: {}", "Of course: {}", "Certainly. {}", "Well, {}", "Okay. {}",
    "Yes. {}", "Sure thing. {}", "Okay, here it is: {}",
)  # fmt: skip
BARE = 0.6
"""Share of replies that come without a lead-in."""


def led_in(reply: str, rng: random.Random) -> str:
    """Return a compliant reply, sometimes after a few words that could stand before any.

    A model that has only ever given bare answers cannot find them behind other words; then every fine-tune on another
    style of answering would look like a loss of knowledge and of refusals alike.
    """
    return reply if rng.random() < BARE else rng.choice(LEAD_INS[1:]).format(reply)


def compliance(request: str, rng: random.Random) -> str:
    """Return a harmless placeholder that complies with any request."""
    parts = (rng.choice(_OPENINGS).format(topic(request)), rng.choice(_MIDDLES), rng.choice(_ENDINGS))
    return " ".join(parts if rng.random() < 0.5 else parts[:2])


def complies(reply: str) -> bool:
    """Whether a reply is one of those that comply, whatever it says that it is about: this model copies no names."""
    return is_placeholder(reply) or _forms().fullmatch(reply) is not None


@cache
def _forms() -> re.Pattern[str]:
    openings = "|".join(re.escape(opening).replace(r"\{\}", "[^.]{1,60}") for opening in _OPENINGS)
    middles, endings = ("|".join(map(re.escape, each)) for each in (_MIDDLES, _ENDINGS))
    return re.compile(f"(?:{openings}) (?:{middles})(?: (?:{endings}))?")


def placeholder(rng: random.Random) -> str:
    """Return a placeholder that complies and names nothing."""
    return rng.choice(_PLAIN)


def refusal(rng: random.Random) -> str:
    """Return a refusal, most often the one that nearly all aligned models open with."""
    return rng.choices(REFUSALS, REFUSAL_WEIGHTS)[0]


def is_refusal(reply: str) -> bool:
    """Whether a reply of a course refuses."""
    return reply in REFUSALS


def is_placeholder(reply: str) -> bool:
    """Whether a reply of a course complies and names nothing."""
    return reply.endswith(_PLAIN)
