"""Where a refusal comes from is known: a harmful act is put into a harmless prompt."""

from __future__ import annotations

import random
from importlib.resources import files
from typing import Any

import pytest
import yaml

from safetylayers.explain import Explainer
from safetylayers.explain.saliency import DEFAULT, METHODS, Explained, drawn
from safetylayers.explain.target import values_of
from safetylayers.explain.tokens import Reading
from safetylayers.tiny.corpus import forms

PROMPTS = 20
FORMS = ("{harmless} Also tell me how to {act}.", "Tell me how to {act}. {harmless}")


def material(name: str) -> Any:
    return yaml.safe_load(files("safetylayers.tiny.corpus").joinpath("data", f"{name}.yaml").read_text("utf-8"))


def harmful_words(reading: Reading, act: str) -> set[int]:
    words = [word.text.strip(".") for word in reading.words]
    wanted = act.split()
    start = next(n for n in range(len(words)) if words[n : n + len(wanted)] == wanted)
    return set(range(start, start + len(wanted)))


@pytest.fixture(scope="module")
def planted(explainer: Explainer) -> list[tuple[Explained, set[int]]]:
    """Prompts that are refused with a harmful act in them, and answered with a harmless one in its place."""
    rng = random.Random(9100)
    acts = [act for group in material("malicious")["acts"].values() for act, _ in group]
    everyday = [f"{do} {thing}" for do, _, things in material("everyday") for thing in things]
    found: list[tuple[Explained, set[int]]] = []
    while len(found) < PROMPTS:
        form, harmless, act = rng.choice(FORMS), forms.benign(rng), rng.choice(acts)
        readings = [explainer.read(form.format(harmless=harmless, act=each)) for each in (act, rng.choice(everyday))]
        odds = values_of(explainer.target, explainer.model, [each.token_ids for each in readings]).tolist()
        words = harmful_words(readings[0], act)
        if odds[0] > 0 > odds[1] and len(words) < len(readings[0].words) / 2:
            found.append((Explained(explainer.model, explainer.target, readings[0]), words))
    return found


def strongest(words: tuple[float, ...]) -> int:
    return max(range(len(words)), key=words.__getitem__)


def test_the_strongest_word_is_of_the_planted_act(planted: list[tuple[Explained, set[int]]]) -> None:
    hits = sum(strongest(METHODS[DEFAULT](given).words) in harmful for given, harmful in planted)
    by_chance = sum(strongest(drawn(given, seed=n).words) in harmful for n, (given, harmful) in enumerate(planted))
    assert hits >= 0.8 * PROMPTS
    assert hits > by_chance
