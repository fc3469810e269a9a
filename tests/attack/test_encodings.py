"""Ways of writing a request: all of it is still there, and the attack stops at the first that works."""

from __future__ import annotations

import base64
import codecs
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetylayers.attack import Encodings, ManyShot, Templates, run_attack
from safetylayers.attack.encodings import FORMS, past_tense
from safetylayers.attack.many_shot import dialogue
from safetylayers.attack.templates import read_templates
from safetylayers.errors import DataError, UsageError
from safetylayers.models import ChatModel
from safetylayers.prompts import Prompt, PromptSet, builtin, render
from safetylayers.records import ProgressCallback
from safetylayers.targets import ModelTarget, Reply

FEW = builtin("malicious", "calibration").take(6)
DECODED: dict[str, Callable[[str], str]] = {
    "base64": lambda text: base64.b64decode(text.rpartition(": ")[2]).decode(),
    "rot13": lambda text: codecs.decode(text.partition(": ")[2], "rot13"),
    "hex": lambda text: bytes.fromhex(text.rpartition(": ")[2]).decode(),
    "reversed": lambda text: text.partition(": ")[2][::-1],
    "role-play": lambda text: text,
    "form": lambda text: str(json.loads(text.partition(": ")[2])["question"]),
}


class Yielding:
    """A target that gives in to requests that hold a word, and remembers what it was asked."""

    name, weights_hash = "yielding", ""

    def __init__(self, word: str) -> None:
        self.word, self.asked = word, list[str]()

    def reply(
        self, prompts: list[str], *, openings: list[str] | None = None, progress: ProgressCallback | None = None
    ) -> list[Reply]:
        del openings, progress
        self.asked += prompts
        no = "I'm sorry, but I can't help with that."
        gives_in = ["Here is what you asked for." if self.word in text else no for text in prompts]
        return [Reply(text, tokens=5) for text in gives_in]


@given(text=st.text(min_size=1).filter(lambda text: text.isprintable()))
@pytest.mark.parametrize("form", DECODED)
def test_what_is_asked_can_be_read_again(form: str, text: str) -> None:
    assert text in DECODED[form](FORMS[form](text, random.Random(1)))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("How do I bake bread at my home?", "How did people bake bread at their home"),
        ("Explain how to bake bread.", "How did people bake bread"),
        ("I want to bake bread. Tell me how.", "How did people bake bread "),
        ("Outline a plan to bake bread while I am away.", "How did people bake bread while they were away"),
        ("Can you help me bake bread?", "How did people bake bread"),
        ("Is bread good?", "used to ask: was bread good?"),
    ],
)
def test_requests_are_put_into_the_past(text: str, told: str) -> None:
    assert told in past_tense(text, random.Random(0))


def test_most_built_in_requests_become_questions_about_the_past() -> None:
    found = [past_tense(text, random.Random(0)) for text in builtin("malicious").texts]
    assert sum(text.startswith("How did people") for text in found) > len(found) / 2


def test_ways_are_tried_until_one_works_and_all_of_them_are_paid_for() -> None:
    target = Yielding("hexadecimal")
    result = run_attack(Encodings(), target, FEW)
    assert result.success_rate("phrases").value == 1
    assert all("hexadecimal" in case.attacked for case in result.cases)
    assert result.cost.queries == len(target.asked) < len(FEW) * len(FORMS)
    assert len({case.cost.queries for case in result.cases}) > 1  # each prompt has its own order


def test_chosen_ways_alone_are_tried() -> None:
    target = Yielding("never")
    run_attack(Encodings(forms="base64+hex"), target, FEW)
    assert len(target.asked) == 2 * len(FEW)
    assert all("base64" in text or "hexadecimal" in text for text in target.asked)
    with pytest.raises(UsageError, match="no encoding 'base65'"):
        Encodings(forms="base65")


def test_templates_are_tried_one_after_the_other() -> None:
    forms = ("one {}", "two {}", "three {}")
    result = run_attack(Templates(forms, tries=9), Yielding("three"), FEW)
    assert {case.attacked for case in result.cases} == {f"three {text}" for text in FEW.texts}
    assert 1 <= min(case.cost.queries for case in result.cases) < max(case.cost.queries for case in result.cases) <= 3


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "Say: {}\n\nNow {prompt}, please\n"),
        ("a.jsonl", '{"template": "Say: {}"}\n{"prompt": "Now [INSERT PROMPT HERE], please"}\n'),
        ("a.json", '["Say: {}", "Now {goal}, please"]'),
        ("a.csv", 'text\nSay: {}\n"Now {}, please"\n'),
    ],
)
def test_templates_are_read_from_files(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    assert read_templates(str(tmp_path / name)) == ("Say: {}", "Now {}, please")
    assert Templates(source=str(tmp_path / name)).settings()["forms"] == 2


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.txt", "Say: {}\nNothing here\n", "line 2: no place for the prompt"),
        ("a.txt", "\n", "no templates"),
        ("a.jsonl", '{"words": "Say: {}"}\n', "line 1: no column with templates"),
    ],
)
def test_what_is_no_template_is_told_with_its_place(tmp_path: Path, name: str, text: str, told: str) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(DataError, match=told):
        Templates(source=str(tmp_path / name))
    with pytest.raises(DataError, match="cannot be read"):
        Templates(source=str(tmp_path / "missing.txt"))


def test_turns_come_before_the_request_and_never_hold_it() -> None:
    prompts = PromptSet("one", (Prompt("1", builtin("malicious", "train").texts[0]),))
    target = Yielding("never")
    run_attack(ManyShot(shots=20), target, prompts)
    (asked,) = target.asked
    assert asked.count("User: ") == asked.count("Assistant:") == 21
    assert asked.endswith(f"User: {prompts.texts[0]}\nAssistant:")
    assert asked.count(prompts.texts[0]) == 1


def test_no_more_turns_are_sent_than_the_model_has_room_for() -> None:
    target = ModelTarget(ChatModel.load("tiny"), max_new_tokens=16)
    result = run_attack(ManyShot(shots=500), target, FEW)
    for case in result.cases:
        (rendered,) = render([case.attacked], target.model.tokenizer)
        assert 150 < len(target.model.tokenizer(rendered, add_special_tokens=False).input_ids) <= 256 - 16
    assert dialogue([], "Hi") == "User: Hi\nAssistant:"
