"""Styles keep the request in them; a values file is checked as a whole."""

from __future__ import annotations

import base64
import random
from pathlib import Path

import pytest

from safetylayers.errors import DataError
from safetylayers.prompts import load_values
from safetylayers.prompts.styles import SHIFTS, TEMPLATES, TRAINED, restyled

REQUEST = "How do I bake a good bread?"


@pytest.mark.parametrize("name", [*TRAINED, *SHIFTS])
def test_every_style_changes_the_form_and_is_drawn_by_its_seed(name: str) -> None:
    style = {**TRAINED, **SHIFTS}[name]
    changed = style(REQUEST, random.Random(3))
    assert changed == style(REQUEST, random.Random(3))
    assert changed.strip()
    if name != "mistyped":
        assert changed != REQUEST


def test_what_is_tested_on_is_not_trained_on() -> None:
    assert not set(TRAINED) & set(SHIFTS)
    wrapped = {TRAINED["wrapped"]("{}", random.Random(seed)) for seed in range(200)}
    assert not wrapped & set(TEMPLATES)
    assert all("{}" in form for form in TEMPLATES)


def test_encodings_can_be_decoded() -> None:
    coded = SHIFTS["base64"](REQUEST, random.Random(0)).rsplit(" ", 1)[1]
    assert base64.b64decode(coded).decode() == REQUEST


def test_a_share_of_the_texts_is_restyled() -> None:
    texts = [f"{REQUEST} {index}" for index in range(200)]
    changed = restyled(texts, TRAINED, seed=0, share=0.5)
    assert 60 < sum(a != b for a, b in zip(texts, changed, strict=True)) < 140
    assert restyled(texts, TRAINED, seed=0, share=0.0) == texts


VALUE = "{description: d, examples: {against: [a], within: [b]}}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version: 1\nvalues: {}", "values: "),
        (f"version: 2\nvalues: {{calm: {VALUE}}}", "version: "),
        (
            "version: 1\nvalues: {calm: {description: d, examples: {against: [], within: [b]}}}",
            "values.calm.examples.against",
        ),
        (f"version: 1\nvalues: {{harm: {VALUE}}}", "harm: always there"),
        ("version: 1\nvalues: {calm: {description: d, wieght: 2, examples: {against: [a], within: [b]}}}", "wieght"),
        ("version: [", "cannot be read as YAML"),
        ("- a", "the file: "),
    ],
)
def test_a_values_file_with_a_mistake_says_where_it_is(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "values.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        load_values(path)


def test_a_values_file_is_read_with_its_weights(tmp_path: Path) -> None:
    path = tmp_path / "values.yaml"
    path.write_text(f"version: 1\nvalues: {{calm: {VALUE}}}")
    value = load_values(path).values["calm"]
    assert (value.weight, value.examples.against) == (1.0, ("a",))
