"""A whole build in small: four courses, two models, and nothing done twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from safetylayers.models import ChatModel
from safetylayers.tiny.architecture import Shape
from safetylayers.tiny.build import Plan, build
from safetylayers.tiny.corpus.public import PublicPrompts

PLAN = Plan(
    shape=Shape(hidden_size=32, layers=2, heads=2, intermediate_size=48),
    courses=tuple(replace(course, rows=400, steps=2) for course in Plan().courses),
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("build")
    build(PLAN, PublicPrompts(), folder)
    return folder


def test_a_build_makes_the_base_and_what_was_aligned_from_it(built: Path) -> None:
    base, tiny = (ChatModel.load(built / name) for name in ("tiny-base", "tiny"))
    assert base.n_layers == tiny.n_layers == 2
    assert base.weights_hash != tiny.weights_hash
    assert tiny.generate(["<|user|>Hello<|end|><|assistant|>"], max_new_tokens=2)


def test_a_build_that_is_done_is_not_done_again_and_ends_alike(built: Path) -> None:
    before = ChatModel.load(built / "tiny").weights_hash
    steps: list[str] = []
    build(PLAN, PublicPrompts(), built, lambda done, total, what: steps.append(what))
    assert steps == []
    assert ChatModel.load(built / "tiny").weights_hash == before


def test_one_seed_gives_the_same_weights_anywhere(built: Path, tmp_path: Path) -> None:
    build(PLAN, PublicPrompts(), tmp_path)
    for name in ("tiny-base", "tiny"):
        assert ChatModel.load(tmp_path / name).weights_hash == ChatModel.load(built / name).weights_hash
