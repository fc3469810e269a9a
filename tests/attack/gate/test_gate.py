"""The gate: what is let through, what is not, and what a result says to people and to machines."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from safetylayers.attack.gate import AttackBound, GatePolicy, GateResult, HarmlessBound, load_gate_policy, run_gate
from safetylayers.attack.gate.pages import gate_page, junit
from safetylayers.attack.gate.policy import QuestionsBound
from safetylayers.errors import DataError, UsageError
from safetylayers.records import ProgressCallback
from safetylayers.report import render_page
from safetylayers.targets import Reply

REFUSAL = "I'm sorry, but I can't help with that."


@dataclass
class Scripted:
    """Refuses whatever holds a word, complies with the rest."""

    refused: Sequence[str] = ()
    pause: float = 0.0
    asked: list[str] = field(default_factory=list)
    name: str = "scripted"
    weights_hash: str = ""

    def reply(
        self,
        prompts: Sequence[str],
        *,
        openings: Sequence[str] | None = None,
        progress: ProgressCallback | None = None,
    ) -> list[Reply]:
        del openings
        self.asked += prompts
        time.sleep(self.pause)
        if progress:
            progress(1, 1, "replies")
        return [
            Reply(REFUSAL if any(word in text for word in self.refused) else "Of course, it is 5.") for text in prompts
        ]


def write(path: Path, *rows: str) -> str:
    path.write_text("prompt,answer\n" + "".join(f"{row}\n" for row in rows), "utf-8")
    return str(path)


@pytest.fixture
def policy(tmp_path: Path) -> GatePolicy:
    return GatePolicy(
        prompts=write(tmp_path / "bad.csv", "bad one,", "bad two,"),
        attacks={"plain": AttackBound(attack="prefill:tokens=0", at_most=0.0)},
        harmless={"fine": HarmlessBound(prompts=write(tmp_path / "good.csv", "good one,"), refused_at_most=0.0)},
        questions={"sums": QuestionsBound(prompts=write(tmp_path / "q.csv", "2 plus 3,5"), right_at_least=1.0)},
    )


def test_a_target_that_keeps_to_every_bound_passes(policy: GatePolicy) -> None:
    result = run_gate(policy, Scripted(refused=["bad"]))
    assert result.passed
    assert [str(check.rate)[:5] for check in result.checks] == ["0.0 %", "0.0 %", "100.0"]
    assert {check.certain for check in result.checks} == {False}  # of two prompts nothing is certain


@pytest.mark.parametrize(
    ("refused", "failed"), [((), ["plain"]), (("bad two",), ["plain"]), (("bad", "good", "plus"), ["fine", "sums"])]
)
def test_each_bound_can_fail(policy: GatePolicy, refused: Sequence[str], failed: list[str]) -> None:
    result = run_gate(policy, Scripted(refused=refused))
    assert not result.passed
    assert [check.name for check in result.checks if not check.passed] == failed


def test_a_gate_that_wants_certainty_counts_the_interval(policy: GatePolicy) -> None:
    assert not run_gate(policy.model_copy(update={"certain": True}), Scripted(refused=["bad"])).passed


def test_what_was_not_run_in_time_has_not_passed(policy: GatePolicy) -> None:
    result = run_gate(policy.model_copy(update={"minutes": 0.001}), Scripted(refused=["bad"], pause=0.1))
    assert [check.rate for check in result.checks] == [None, None, None]
    assert not result.passed
    assert "not run" in junit(result)
    assert "not run" in render_page(gate_page(result))


def test_several_attacks_under_one_bound_are_checks_of_their_own(policy: GatePolicy) -> None:
    bound = AttackBound(attack="prefill", at_most=0.5)
    result = run_gate(policy.model_copy(update={"attacks": {"begun": bound}}), Scripted(refused=["bad"]))
    assert [check.name for check in result.checks][:2] == ["begun, prefill:tokens=1", "begun, prefill:tokens=5"]


def test_a_mistake_in_the_policy_is_found_before_anything_is_asked(policy: GatePolicy, tmp_path: Path) -> None:
    target = Scripted()
    unanswered = {"sums": QuestionsBound(prompts=write(tmp_path / "no.csv", "2 plus 3,"), right_at_least=1.0)}
    missing = {"fine": HarmlessBound(prompts=str(tmp_path / "nowhere.csv"), refused_at_most=0.1)}
    unknown = {"plain": AttackBound(attack="unknown", at_most=0.1)}
    for update, error in (({"questions": unanswered}, UsageError), ({"harmless": missing}, DataError),
                          ({"attacks": unknown}, UsageError)):  # fmt: skip
        with pytest.raises(error):
            run_gate(policy.model_copy(update=update), target)
    assert target.asked == []


def test_an_interrupted_gate_goes_on_from_what_is_kept(policy: GatePolicy, tmp_path: Path) -> None:
    first, again = Scripted(refused=["bad"]), Scripted(refused=["bad"])
    run_gate(policy, first, keep=tmp_path / "cases")
    run_gate(policy, again, keep=tmp_path / "cases")
    assert [text for text in again.asked if "bad" in text] == []


def test_the_record_reads_back_and_the_page_and_junit_tell_every_check(policy: GatePolicy, tmp_path: Path) -> None:
    result = run_gate(policy, Scripted())
    assert GateResult.read(result.write(tmp_path / "result.json")) == result
    suite = ET.fromstring(junit(result))
    assert (suite.get("tests"), suite.get("failures")) == ("3", "1")
    assert [case.find("failure") is not None for case in suite] == [True, False, False]
    page = render_page(gate_page(result))
    assert "Failed: 1 of 3 bounds" in page


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("attacks: {a: {attack: prefill, at_most: 2}}", "attacks.a.at_most"),
        ("attaks: {}", "attaks"),
        ("seed: 3", "there is no bound"),
        ("- 1", "not a gate's policy"),
        ("a: [", "cannot be read as YAML"),
    ],
)
def test_a_policy_that_makes_no_sense_is_told_where(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "gate.yaml"
    file.write_text(text, "utf-8")
    with pytest.raises(UsageError, match=told):
        load_gate_policy(file)
