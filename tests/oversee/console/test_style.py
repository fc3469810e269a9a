"""The console's own colours: text on them can be read, in both schemes, and they grow from step to step."""

from __future__ import annotations

import re
from importlib.resources import files
from itertools import pairwise

import numpy as np
import pytest

from report.test_style import DARK, LIGHT, SEEN, contrast, lab, linear
from safetylayers.oversee.console.marks import STEPS

STYLE = files("safetylayers.oversee.console").joinpath("static/console.css").read_text("utf-8")
OWN_LIGHT, OWN_DARK = (
    dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for block in re.findall(r":root \{([^}]*)\}", STYLE)[:2]
)
SCHEMES = {"light": {**LIGHT, **OWN_LIGHT}, "dark": {**DARK, **OWN_DARK}}
LEVELS = [f"l{level}" for level in range(len(STEPS) + 1)]
TEXT = [
    *(("ink", level) for level in LEVELS),
    ("stop-ink", "stop"), ("card", "accent"), ("card", "warning"), ("ink", "bad-tint"), ("bad", "bad-tint"),
    ("warning", "warning-tint"), ("soft", "sunk"),
]  # fmt: skip


def test_both_schemes_define_every_variable_that_is_used() -> None:
    used = set(re.findall(r"var\(--([\w-]+)\)", STYLE)) - {"edge"}
    for colours in SCHEMES.values():
        assert used <= set(colours)
    assert set(OWN_LIGHT) == set(OWN_DARK)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_meets_aa_contrast(scheme: str) -> None:
    colours = SCHEMES[scheme]
    weak = {pair: round(contrast(*(colours[name] for name in pair)), 2) for pair in TEXT}
    assert {pair: value for pair, value in weak.items() if value < 4.5} == {}


@pytest.mark.parametrize("sight", SEEN)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_each_level_is_told_from_the_next_for_every_sight(scheme: str, sight: str) -> None:
    seen = [lab(np.array(SEEN[sight]) @ linear(SCHEMES[scheme][name])) for name in LEVELS]
    lightness = [float(colour[0]) for colour in seen]
    assert lightness == sorted(lightness, reverse=scheme == "light")
    assert min(float(np.linalg.norm(one - other)) for one, other in pairwise(seen)) > 5


def test_what_passed_the_threshold_is_told_without_colour_too() -> None:
    assert re.search(r"\.l4, \.l5 \{ text-decoration: underline", STYLE)
