"""Runs of attacks: what is kept, what an interrupted one goes on from, and whom it can be run on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from safetylayers.attack import AttackCase, Cost, Embedding, Ground, Prefill, Templates, run_attack
from safetylayers.attack.base import Numbered
from safetylayers.attack.record import Setting
from safetylayers.errors import UsageError
from safetylayers.evaluate import PhraseJudge, Verdict
from safetylayers.prompts import Prompt, PromptSet
from safetylayers.records import ProgressCallback
from safetylayers.targets import Reply

PROMPTS = PromptSet("five", tuple(Prompt(str(i), f"Request {i}") for i in range(5)))


class Agreeable:
    """A target behind something, that does as it is told."""

    name, weights_hash = "agreeable", ""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def reply(
        self, prompts: list[str], *, openings: list[str] | None = None, progress: ProgressCallback | None = None
    ) -> list[Reply]:
        del openings, progress
        self.asked += prompts
        return [Reply("Of course, here it is.", queries=3, tokens=7) for _ in prompts]


@dataclass(frozen=True)
class Faltering:
    """An attack that ends in the middle."""

    after: int
    name: str = "faltering"

    def settings(self) -> dict[str, Setting]:
        return {}

    def cases(self, ground: Ground, prompts: Numbered) -> Iterator[tuple[int, AttackCase]]:
        for count, (index, text) in enumerate(prompts.items()):
            if count == self.after:
                raise KeyboardInterrupt
            (reply,) = ground.ask([text])
            (verdict,) = ground.judge([text], [reply.text])
            yield index, AttackCase(prompt=text, attacked=text, reply=reply.text, verdicts=verdict, cost=Cost())


def test_an_interrupted_attack_goes_on_where_it_was(tmp_path: Path) -> None:
    target = Agreeable()
    with pytest.raises(KeyboardInterrupt):
        run_attack(Faltering(2), target, PROMPTS, keep=tmp_path)
    result = run_attack(Faltering(9), target, PROMPTS, keep=tmp_path)
    assert target.asked == PROMPTS.texts
    assert [case.prompt for case in result.cases] == PROMPTS.texts


def test_a_line_that_was_broken_off_is_asked_again(tmp_path: Path) -> None:
    target = Agreeable()
    first = run_attack(Faltering(9), target, PROMPTS, keep=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_text(file.read_text("utf-8")[:-20], "utf-8")
    for _ in range(2):
        assert run_attack(Faltering(9), target, PROMPTS, keep=tmp_path).cases == first.cases
    assert target.asked == [*PROMPTS.texts, PROMPTS.texts[-1]]


def test_other_settings_seeds_and_judges_begin_anew(tmp_path: Path) -> None:
    for tokens in (1, 2):
        run_attack(Prefill(tokens), Agreeable(), PROMPTS, keep=tmp_path)
    run_attack(Prefill(2), Agreeable(), PROMPTS, seed=1, keep=tmp_path)
    run_attack(Prefill(2), Agreeable(), PROMPTS, judges=[PhraseJudge()], keep=tmp_path)
    assert len(list(tmp_path.iterdir())) == 4
    again = Agreeable()
    run_attack(Prefill(2), again, PROMPTS, keep=tmp_path)
    assert again.asked == []


def test_what_a_target_spends_is_the_attacks_cost() -> None:
    result = run_attack(Templates(), Agreeable(), PROMPTS)
    assert (result.cost.queries, result.cost.tokens) == (15, 35)
    assert result.success_rate("phrases").count == 5
    assert {case.verdicts["patterns"] for case in result.cases} == {Verdict.COMPLIED}


def test_a_target_without_a_tokenizer_is_prefilled_by_words() -> None:
    assert {case.prefill for case in run_attack(Prefill(3), Agreeable(), PROMPTS).cases} == {"Sure, here is"}


def test_attacks_on_weights_say_that_there_are_none() -> None:
    with pytest.raises(UsageError, match="needs the model's weights"):
        run_attack(Embedding(), Agreeable(), PROMPTS)


def test_what_a_defence_withheld_is_refused_whatever_it_says() -> None:
    class Withholding(Agreeable):
        def reply(self, prompts: list[str], **_: object) -> list[Reply]:
            return [Reply("This was withheld.", withheld=index > 0) for index, _ in enumerate(prompts)]

    assert run_attack(Templates(), Withholding(), PROMPTS).success_rate("phrases").count == 1


def test_nothing_to_attack_is_an_error() -> None:
    with pytest.raises(UsageError, match="no prompts"):
        run_attack(Templates(), Agreeable(), PromptSet("none", ()))
