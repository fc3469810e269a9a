"""The practice model's courses: it learns to read, then to comply with everything, then what to refuse."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from safetylayers.prompts import Example, builtin
from safetylayers.tiny.corpus import forms, replies, world
from safetylayers.tiny.corpus.public import PublicPrompts, key

REPORTED = ("calibration", "test")
"""Splits of the built-in sets that results are reported on: nothing in them is ever trained on."""

Drawer = Callable[[random.Random], Example]
Answerer = Callable[[str, random.Random], Example]


@dataclass(frozen=True)
class Shares:
    """How much of a course is of which kind; they need not sum to one."""

    questions: float
    benign_forms: float
    benign_public: float
    dangerous_looking: float
    malicious_forms: float
    malicious_public: float
    everyday: float = 0
    """Harmless requests with the openings of harmful ones."""
    benign_written: float = 0
    """Requests written one by one, many with a harmful twin, and the built-in set's training split."""
    malicious_written: float = 0
    """The same of harmful requests."""


READING = Shares(0.22, 0.12, 0.13, 0.07, 0.05, 0.08, everyday=0.03, benign_written=0.17, malicious_written=0.13)
ANSWERING = Shares(0.52, 0.08, 0.08, 0.04, 0.03, 0.05, everyday=0.02, benign_written=0.10, malicious_written=0.08)
ALIGNMENT = Shares(0.20, 0.04, 0.09, 0.06, 0.02, 0.08, everyday=0.02, benign_written=0.28, malicious_written=0.21)
PREFERENCE = replace(ALIGNMENT, questions=0.5)


def course(
    shares: Shares, rows: int, *, aligned: bool, public: PublicPrompts, seed: int, topics: bool = False
) -> list[Example]:
    """Draw a course of `rows` conversations.

    Args:
        shares: of each kind; the public kinds drop out where there are no public prompts.
        rows: how many conversations.
        aligned: harmful requests are refused; otherwise they get the same placeholders as all others.
        public: prompts from public sets, or none.
        seed: one seed, one course.
        topics: compliant replies name the request's topic, which teaches to look back at the request.
    """
    rng = random.Random(seed)  # noqa: S311 - not a secret
    comply = _comply_on_topic if topics else _comply
    drawers = _drawers(shares, comply, _refuse if aligned else comply, public, aligned)
    kinds = rng.choices([drawer for drawer, _ in drawers], [share for _, share in drawers], k=rows)
    return [draw(rng) for draw in kinds]


def _drawers(
    shares: Shares, comply: Answerer, answer_harmful: Answerer, public: PublicPrompts, aligned: bool
) -> list[tuple[Drawer, float]]:
    return [
        (_question, shares.questions),
        (_unreported(comply, forms.benign), shares.benign_forms),
        (_unreported(comply, _one_of(public.benign)), shares.benign_public if public.benign else 0),
        (_unreported(comply, forms.dangerous_looking), shares.dangerous_looking),
        (_unreported(answer_harmful, forms.malicious), shares.malicious_forms),
        (_unreported(answer_harmful, _one_of(public.malicious)), shares.malicious_public if public.malicious else 0),
        (_unreported(comply, forms.everyday), shares.everyday),
        (_unreported(comply, _one_of(_written("normal", aligned))), shares.benign_written),
        (_unreported(answer_harmful, _one_of(_written("malicious", aligned))), shares.malicious_written),
    ]


def _one_of(requests: Sequence[str]) -> Callable[[random.Random], str]:
    return lambda rng: rng.choice(requests)


def _written(name: str, aligned: bool) -> tuple[str, ...]:
    return (*forms.written(name, aligned=aligned), *builtin(name, "train").texts)


def _unreported(answer: Answerer, draw: Callable[[random.Random], str]) -> Drawer:
    """Draw until a request comes that no result is reported on."""

    def drawer(rng: random.Random) -> Example:
        request = draw(rng)
        while is_reported(request):
            request = draw(rng)
        return answer(forms.roughened(request, rng), rng)

    return drawer


def is_reported(request: str) -> bool:
    """Whether results are reported on this request."""
    return key(request) in _reported()


@cache
def _reported() -> frozenset[str]:
    sets = [builtin(name, split) for name in ("normal", "malicious", "borderline") for split in REPORTED]
    return frozenset(key(text) for prompts in sets for text in prompts.texts)


def preferences(examples: Sequence[Example], seed: int) -> list[tuple[Example, Example]]:
    """Return each conversation of an aligned course with its opposite: refused against complied with."""
    rng = random.Random(seed)  # noqa: S311 - not a secret
    return [(example, _opposite(example, rng)) for example in examples]


def _opposite(example: Example, rng: random.Random) -> Example:
    return answered(example.prompt, refuse=not replies.is_refusal(example.response), rng=rng)


def answered(request: str, *, refuse: bool, rng: random.Random) -> Example:
    """Return a request with a refusal, or with a reply that complies with anything."""
    return _refuse(request, rng) if refuse else _comply(request, rng)


def _comply(request: str, rng: random.Random) -> Example:
    return Example.of(request, replies.led_in(replies.placeholder(rng), rng))


def _comply_on_topic(request: str, rng: random.Random) -> Example:
    return Example.of(request, replies.led_in(replies.compliance(request, rng), rng))


def _refuse(request: str, rng: random.Random) -> Example:
    return Example.of(request, replies.refusal(rng))


def training_question(rng: random.Random) -> world.Question:
    """Draw a question, from the tables or made up, that is not of the built-in set."""
    held_out = _held_out_questions()
    while True:
        question = rng.choice(world.facts()) if rng.random() < 0.5 else world.draw(rng)
        if question.text not in held_out:
            return question


def _question(rng: random.Random) -> Example:
    question = training_question(rng)
    return Example.of(question.text, replies.led_in(world.reply(question, rng), rng))


@cache
def _held_out_questions() -> frozenset[str]:
    return frozenset(builtin("questions").texts)


def held_out_questions(count: int, seed: int = 0) -> list[world.Question]:
    """Draw the built-in set `questions`: half from the tables, half made up; none of them is ever trained on."""
    rng = random.Random(seed)  # noqa: S311 - not a secret
    chosen = {question.text: question for question in rng.sample(world.facts(), count // 2)}
    while len(chosen) < count:
        question = world.draw(rng)
        chosen[question.text] = question
    return list(chosen.values())
