"""The style sheet: every variable exists in both schemes, and colours can be read and told apart."""

from __future__ import annotations

import re
from importlib.resources import files
from itertools import combinations

import numpy as np
import pytest

STYLE = files("safetylayers.report").joinpath("templates/style.css").read_text("utf-8")
LIGHT, DARK = (
    dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for block in re.findall(r":root \{([^}]*)\}", STYLE)[:2]
)
SCHEMES = {"light": LIGHT, "dark": DARK}
SERIES = [f"s{index}" for index in range(6)]

TEXT = [
    *((ink, ground) for ink in ("ink", "soft", "accent") for ground in ("paper", "card", "sunk")),
    *(("ink", ground) for ground in ("tint", "good-tint", "warning-tint")),
    ("good", "good-tint"), ("bad", "bad-tint"), ("s1", "paper"),
    ("card", "soft"), ("card", "good"), ("card", "warning"),
]  # fmt: skip
"""(colour, ground) of every text on the page; WCAG 2.2 AA asks for 4.5."""
GRAPHICS = [*((mark, ground) for mark in [*SERIES, "soft"] for ground in ("paper", "tint")), ("axis", "paper")]
"""Lines and marks that carry meaning; AA asks for 3."""

# Machado, Oliveira and Fernandes 2009, table 1, severity 1.0: linear RGB as seen with each deficiency.
SEEN = {
    "usual": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> np.ndarray:
    share = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    dim, bright = sorted(float(TO_XYZ[1] @ linear(colour)) for colour in (one, other))
    return (bright + 0.05) / (dim + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    ratio = TO_XYZ @ np.clip(rgb, 0, 1) / np.array([0.9505, 1, 1.0888])
    x, y, z = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_both_schemes_define_every_variable_that_is_used() -> None:
    used = set(re.findall(r"var\(--([\w-]+)\)", STYLE)) - {"own"}  # set by each series' own class
    assert used
    assert used == set(LIGHT) == set(DARK)
    assert all(f"svg .{name} {{ --own: var(--{name}); }}" in STYLE for name in SERIES)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_meets_aa_contrast(scheme: str) -> None:
    colours = SCHEMES[scheme]
    weak = {pair: round(contrast(*(colours[name] for name in pair)), 2) for pair in TEXT}
    assert {pair: value for pair, value in weak.items() if value < 4.5} == {}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_lines_and_marks_meet_aa_contrast(scheme: str) -> None:
    colours = SCHEMES[scheme]
    weak = {pair: round(contrast(*(colours[name] for name in pair)), 2) for pair in GRAPHICS}
    assert {pair: value for pair, value in weak.items() if value < 3} == {}


@pytest.mark.parametrize("sight", SEEN)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_series_colours_stay_apart_for_every_sight(scheme: str, sight: str) -> None:
    seen = [lab(np.array(SEEN[sight]) @ linear(SCHEMES[scheme][name])) for name in SERIES]
    assert min(float(np.linalg.norm(a - b)) for a, b in combinations(seen, 2)) > 20


def test_the_sheet_asks_for_nothing_from_elsewhere() -> None:
    assert not re.search(r"url\(|@import|@font-face|https?:|</", STYLE)


def test_print_is_light_and_cuts_no_chart() -> None:
    assert "@media screen and (prefers-color-scheme: dark)" in STYLE
    printed = STYLE[STYLE.index("@media print") :]
    assert "break-inside: avoid" in printed
    assert "color-scheme: light;" in printed
