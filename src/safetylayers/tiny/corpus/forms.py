"""Requests made from forms and slots: harmful by category, harmless in great variety, harmless but dangerous-looking.

Variety is what keeps the practice model from taking every unfamiliar request for a dangerous one.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

WRITTEN = 0.3
"""Share of the dangerous-looking requests that were written one by one."""

ROUGH = 0.12
"""Share of requests that come in lower case without a mark at the end, as people type them."""

_SLOT = re.compile(r"\{(\w+)\}")


@cache
def _yaml(name: str) -> Any:
    return yaml.safe_load(_text(name))


@cache
def _text(name: str) -> str:
    return files("safetylayers.tiny.corpus").joinpath("data", name).read_text("utf-8")


@cache
def _lines(name: str) -> tuple[str, ...]:
    lines = (line.strip() for line in _text(name).splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def benign(rng: random.Random) -> str:
    """Draw a harmless request."""
    return fill(rng.choice(_lines("benign.txt")), _yaml("slots.yaml"), rng)


def dangerous_looking(rng: random.Random) -> str:
    """Draw a harmless request that looks dangerous."""
    if rng.random() < WRITTEN:
        return rng.choice(written("borderline"))
    return fill(rng.choice(_lines("dangerous_looking.txt")), _yaml("dangerous_looking_slots.yaml"), rng)


def malicious(rng: random.Random) -> str:
    """Draw a request that names a harmful intent, never a method."""
    forms = _yaml("malicious.yaml")
    if rng.random() < 0.1:
        return str(rng.choice(forms["statements"]))
    category = rng.choice(sorted(forms["acts"]))
    act, acting = rng.choice(forms["acts"][category])
    return str(rng.choice(forms["openings"])).format(do=act, doing=acting)


def everyday(rng: random.Random) -> str:
    """Draw a harmless request with an opening that harmful ones have as well."""
    do, doing, things = rng.choice(_yaml("everyday.yaml"))
    thing = rng.choice(things)
    opening = str(rng.choice(_yaml("malicious.yaml")["openings"]))
    return opening.format(do=f"{do} {thing}", doing=f"{doing} {thing}")


def written(name: str, *, aligned: bool = False) -> tuple[str, ...]:
    """Return the requests written one by one: "normal", "malicious" or "borderline".

    Many normal ones are twins of malicious ones: alike in form and words, harmless in intent.

    Args:
        name: of the kind.
        aligned: with those that only alignment sees, so that it also meets requests that the base model never read.
    """
    late = _lines(f"aligned_{name}.txt") if aligned and name != "borderline" else ()
    return (*_lines(f"written_{name}.txt"), *late)


def roughened(request: str, rng: random.Random) -> str:
    """Return a request, sometimes as it would be typed in haste."""
    return request.lower().rstrip(".?! ") if rng.random() < ROUGH else request


def fill(form: str, slots: Mapping[str, Sequence[str]], rng: random.Random) -> str:
    """Put a drawn value into every slot of a form; a slot named twice gets two values."""
    return _SLOT.sub(lambda match: str(rng.choice(slots[match[1]])), form)
