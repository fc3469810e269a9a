"""Repairs are exact in weight space, and the search takes the cheapest of those that refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from safetylayers.errors import UsageError
from safetylayers.finetune.repairs import Workpiece, direction_of, length, scaled, weights_of
from safetylayers.finetune.restore import Candidate, RestoreResult, choose, gain_kept, restore
from safetylayers.models import ChatModel
from safetylayers.prompts import Example, ExampleSet, Prompt, PromptSet
from safetylayers.records import Rate
from support import random_chat_model

PROMPTS = PromptSet("few", (Prompt("1", "Do a"), Prompt("2", "Do b")))
TASK = ExampleSet("task", (Example.of("Say a", "a!"), Example.of("Say b", "b!")))


class AnyMap:
    """A map of layers 1 to 2 for whatever model."""

    range = (1, 2)

    def check(self, model: ChatModel) -> None:
        """Accept it."""


def models() -> tuple[ChatModel, ChatModel, ChatModel]:
    tuned, aligned, base = (random_chat_model("Llama", seed=seed) for seed in (2, 0, 1))
    return tuned, aligned, base


def same(one: ChatModel, other: ChatModel, where: str = "") -> bool:
    theirs = dict(other.model.named_parameters())
    return all(torch.allclose(p, theirs[n], atol=1e-5) for n, p in one.model.named_parameters() if where in n)


def moved(model: ChatModel, direction: dict[str, torch.Tensor], strength: float, elsewhere: float) -> ChatModel:
    work = Workpiece.of(model, model, 0.0, 0)
    return work.set(scaled(direction, weights_of(model, (1, 2)), strength, elsewhere))


def test_a_whole_graft_of_all_weights_is_the_aligned_model() -> None:
    tuned, aligned, _ = models()
    direction = direction_of("graft", tuned, aligned, None, 1)
    assert same(moved(tuned, direction, 1.0, 1.0), aligned)
    assert same(moved(tuned, direction, 0.0, 0.0), tuned)


def test_strengths_are_apart_at_the_safety_layers_and_elsewhere() -> None:
    tuned, aligned, _ = models()
    found = moved(tuned, direction_of("graft", tuned, aligned, None, 1), 1.0, 0.0)
    assert same(found, aligned, "layers.1.self_attn")
    assert same(found, aligned, "layers.2.mlp")
    assert same(found, tuned, "layers.0.")
    assert same(found, tuned, "layernorm")
    assert same(found, tuned, "embed")
    half = moved(tuned, direction_of("graft", tuned, aligned, None, 1), 1.0, 0.5)
    middle = (tuned.model.model.norm.weight + aligned.model.model.norm.weight) / 2
    assert same(half, aligned, "layers.1.self_attn")
    assert torch.allclose(half.model.model.norm.weight, middle, atol=1e-6)


def test_the_safety_vector_leads_from_the_base_to_the_aligned_model() -> None:
    _, aligned, base = models()
    assert same(moved(base, direction_of("resta", base, aligned, base, 1), 1.0, 1.0), aligned)


def test_lox_at_full_rank_is_the_safety_vector_of_its_matrices_and_less_below() -> None:
    tuned, aligned, base = models()
    whole = direction_of("resta", tuned, aligned, base, 1)
    full, low = (direction_of("lox", tuned, aligned, base, rank) for rank in (64, 2))
    assert full.keys() == weights_of(aligned, (0, 3)).keys()
    assert all(torch.allclose(each, whole[name], atol=1e-4) for name, each in full.items())
    assert all(torch.linalg.matrix_rank(each, rtol=1e-4) <= 2 for each in low.values())
    assert length(low) < length(full)


def test_dare_drops_its_share_and_keeps_the_update_on_average() -> None:
    tuned, aligned, _ = models()
    work = Workpiece.of(tuned, aligned, 0.75, seed=0)
    name = "model.embed_tokens.weight"
    was, update = (
        aligned.model.get_parameter(name),
        tuned.model.get_parameter(name) - aligned.model.get_parameter(name),
    )
    kept = work.start[name] - was
    dropped = kept.abs() < 1e-9
    assert dropped.float().mean().item() == pytest.approx(0.75, abs=0.02)
    assert torch.allclose(kept[~dropped], 4 * update[~dropped], atol=1e-5)
    again = Workpiece.of(tuned, aligned, 0.75, seed=0)
    assert torch.equal(again.start[name], work.start[name])


def candidate(harmful: int, loss: float | None = None, moved: float = 1.0) -> Candidate:
    rate = Rate(count=harmful, total=100)
    return Candidate(strength=1, elsewhere=0, harmful_rate=rate, task_loss=loss, moved=moved)


candidates = st.builds(candidate, st.integers(0, 100), st.floats(0, 3), st.floats(0, 9))


@given(st.lists(candidates, min_size=1), st.floats(0, 1))
def test_the_cheapest_of_the_safe_is_chosen_or_else_the_safest(tried: list[Candidate], highest: float) -> None:
    chosen, reached = choose(tried, highest)
    safe = [one for one in tried if one.harmful_rate.value <= highest]
    assert reached == bool(safe)
    if safe:
        assert chosen in safe
        assert chosen.task_loss == min(one.task_loss or 0 for one in safe)
    else:
        assert chosen.harmful_rate.value == min(one.harmful_rate.value for one in tried)


def test_without_task_rows_the_smallest_move_is_cheapest() -> None:
    tried = [candidate(5, moved=3.0), candidate(5, moved=2.0), candidate(50, moved=1.0)]
    assert choose(tried, 0.1) == (tried[1], True)


def test_the_gain_kept_is_a_share_of_the_fall_in_loss() -> None:
    aligned, tuned, half = candidate(0, 2.0), candidate(90, 1.0), candidate(0, 1.5)
    assert gain_kept(half, aligned, tuned) == pytest.approx(0.5)
    assert gain_kept(tuned, aligned, tuned) == 1
    assert gain_kept(half, tuned, aligned) is None
    assert gain_kept(candidate(0), aligned, tuned) is None


def search(output: Path, **changes: Any) -> RestoreResult:
    tuned, aligned, base = models()
    given = {"base": base, "prompts": PROMPTS, "task": TASK, **changes}
    return restore(tuned, aligned, AnyMap(), output=output, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["graft", "resta", "lox"])
def test_a_search_saves_what_it_chose_and_leaves_the_models_alone(tmp_path: Path, method: str) -> None:
    tuned, aligned, base = models()
    before = [each.fresh_weights_hash() for each in (tuned, aligned, base)]
    result = restore(
        tuned, aligned, AnyMap(), output=tmp_path, method=method, base=base, prompts=PROMPTS, task=TASK  # type: ignore[arg-type]
    )  # fmt: skip
    assert [each.fresh_weights_hash() for each in (tuned, aligned, base)] == before
    assert RestoreResult.read(tmp_path / "result.json") == result
    direction = direction_of(result.method, tuned, aligned, base, 6)
    expected = moved(tuned, direction, result.chosen.strength, result.chosen.elsewhere)
    assert same(ChatModel.load(tmp_path, device="cpu"), expected)


def test_settings_that_make_no_sense_are_usage_errors(tmp_path: Path) -> None:
    for changes in (
        {"method": "resta", "base": None},
        {"method": "graft", "drop": 0.5},
        {"method": "none"},
        {"tolerance": -0.1},
        {"method": "lox", "rank": 0},
        {"strengths": []},
        {"strengths": [float("nan")]},
        {"shares": [1.5]},
        {"shares": []},
    ):
        with pytest.raises(UsageError):
            search(tmp_path, **changes)
    tuned, _, _ = models()
    with pytest.raises(UsageError, match="is not of the shape"):
        direction_of("graft", tuned, random_chat_model("Llama", hidden_size=16), None, 1)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty"):
        search(tmp_path)
