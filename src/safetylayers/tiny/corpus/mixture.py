"""The practice model's courses: it learns to read, then to comply with everything, then what to refuse."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from safetylayers.prompts import Example, builtin
from safetylayers.tiny.corpus import forms, replies, world
from safetylayers.tiny.corpus.public import PublicPrompts

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
    """Harmless requests with the openings of harmful ones, half of them from the built-in set's training split."""


READING = Shares(0.34, 0.24, 0.14, 0.08, 0.08, 0.12)
ANSWERING = Shares(0.54, 0.17, 0.10, 0.05, 0.05, 0.09)
ALIGNMENT = Shares(0.20, 0.18, 0.14, 0.07, 0.10, 0.21, everyday=0.16)


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
    drawers = _drawers(shares, comply, _refuse if aligned else comply, public)
    kinds = rng.choices([drawer for drawer, _ in drawers], [share for _, share in drawers], k=rows)
    return [draw(rng) for draw in kinds]


def _drawers(
    shares: Shares, comply: Answerer, answer_harmful: Answerer, public: PublicPrompts
) -> list[tuple[Drawer, float]]:
    questions = _training_questions()
    malicious = [*public.malicious, *builtin("malicious", "train").texts]
    benign = [*public.benign, *builtin("normal", "train").texts]
    return [
        (lambda rng: _question(rng, questions), shares.questions),
        (lambda rng: comply(forms.benign(rng), rng), shares.benign_forms),
        (lambda rng: comply(rng.choice(benign), rng), shares.benign_public),
        (lambda rng: comply(forms.dangerous_looking(rng), rng), shares.dangerous_looking),
        (lambda rng: answer_harmful(forms.malicious(rng), rng), shares.malicious_forms),
        (lambda rng: answer_harmful(rng.choice(malicious), rng), shares.malicious_public),
        (lambda rng: comply(_everyday(rng), rng), shares.everyday),
    ]


def _everyday(rng: random.Random) -> str:
    return rng.choice(builtin("normal", "train").texts) if rng.random() < 0.5 else forms.everyday(rng)


def _comply(request: str, rng: random.Random) -> Example:
    return Example.of(request, replies.placeholder(rng))


def _comply_on_topic(request: str, rng: random.Random) -> Example:
    return Example.of(request, replies.compliance(request, rng))


def _refuse(request: str, rng: random.Random) -> Example:
    return Example.of(request, replies.refusal(rng))


def _question(rng: random.Random, questions: tuple[world.Question, ...]) -> Example:
    held_out = set(builtin("questions").texts)
    question = rng.choice(questions) if rng.random() < 0.5 else world.draw(rng)
    while question.text in held_out:
        question = world.draw(rng)
    return Example.of(question.text, world.reply(question))


def _training_questions() -> tuple[world.Question, ...]:
    """Return every question that a table answers, but for the held-out ones."""
    held_out = set(builtin("questions").texts)
    return tuple(question for question in world.facts() if question.text not in held_out)


def held_out_questions(count: int, seed: int = 0) -> list[world.Question]:
    """Draw the built-in set `questions`: half from the tables, half made up; none of them is ever trained on."""
    rng = random.Random(seed)  # noqa: S311 - not a secret
    chosen = {question.text: question for question in rng.sample(world.facts(), count // 2)}
    while len(chosen) < count:
        question = world.draw(rng)
        chosen[question.text] = question
    return list(chosen.values())
