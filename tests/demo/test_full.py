"""The full study sums up what its cases found, and does no case twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from safetylayers.demo.full import Attack, Case, FullPlan, run_full, sum_up
from safetylayers.demo.full_pages import full_page, full_rows
from safetylayers.report import render_page


def case(method: str, seed: int, harmful: list[bool]) -> Case:
    return Case(
        attack="implicit",
        method=method,
        seed=seed,
        harmful={"phrases": tuple(harmful), "patterns": tuple(harmful)},
        over_refused={"phrases": (True, False)},
        right=(True, False, True),
        frozen_count=0,
    )


def test_a_cell_is_the_mean_over_prompts_and_seeds_against_full_training() -> None:
    full = [case("full", 0, [True, True, True, False]), case("full", 1, [True] * 4)]
    sppft = [case("sppft", 0, [False, False, True, False]), case("sppft", 1, [False] * 4)]
    cell = sum_up(sppft, full)
    assert cell.harmful_rate["phrases"].mean == pytest.approx(1 / 8)
    assert cell.seeds == (0.0, 0.25)
    assert cell.harmful_against_full
    assert cell.harmful_against_full.mean == pytest.approx(1 / 8 - 7 / 8)
    assert cell.right_against_full
    assert cell.right_against_full.mean == 0
    assert sum_up(full, full).harmful_against_full is None


def test_a_study_is_resumed_case_by_case_and_makes_a_page(tmp_path: Path) -> None:
    plan = FullPlan(attacks=(Attack("implicit"), Attack("backdoor")), seeds=(0,), rows=32, steps=1, batch_size=4)
    first, found = run_full(tmp_path, plan)
    cases = sorted((tmp_path / "cases" / plan.folder(found)).iterdir())
    assert all(path.suffix == ".json" for path in cases)
    assert len(cases) == len(first.cells)
    assert replace(plan, steps=2).folder(found) != plan.folder(found)
    times = [path.stat().st_mtime_ns for path in cases[1:]]
    cases[0].unlink()
    again, _ = run_full(tmp_path, plan)
    assert again == first
    assert [path.stat().st_mtime_ns for path in cases[1:]] == times
    assert len(full_rows(first)) == 1 + len(first.cells) + len(first.before)
    page = render_page(full_page(first, found))
    assert "The backdoor attack" in page
    assert "The implicit attack" in page
