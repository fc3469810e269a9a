from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from harden.probed import probed_map
from safetylayers.errors import PolicyError, WrongModelError
from safetylayers.models import ChatModel
from safetylayers.oversee.guards import Failure, Guard, Passage, Verdict, close_guard, make_guard, open_guard, run_guard
from safetylayers.oversee.words import Message
from safetylayers.prompts import builtin
from support import random_chat_model

NOISE = " xq}] zv!!kp ~~w@# qj;;x |z^ 8fk} vv"
BREAD = "How do I bake bread?"


@pytest.fixture(scope="module")
def map_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return probed_map(ChatModel.load("tiny")).save(tmp_path_factory.mktemp("map"))


def _request(*messages: str | Message) -> Passage:
    turns = tuple(Message("user", each) if isinstance(each, str) else each for each in messages)
    return Passage("input", "\n".join(turn.content for turn in turns), messages=turns)


def _checked(guard: Guard, *passages: Passage, timeout: float = 60) -> list[Verdict | Failure]:
    async def scenario() -> list[Verdict | Failure]:
        try:
            await open_guard(guard)
            return [await run_guard(guard, passage, timeout=timeout) for passage in passages]
        finally:
            await close_guard(guard)

    return asyncio.run(scenario())


def _guard(kind: str, **settings: Any) -> Guard:
    return make_guard("mine", kind, {"local": {"source": "tiny", "device": "cpu"}, **settings})


def _found(guard: Guard, passage: Passage) -> list[str]:
    (verdict,) = _checked(guard, passage)
    assert isinstance(verdict, Verdict), verdict
    assert verdict.checked == len(passage.text)
    return [passage.text[finding.start : finding.end] for finding in verdict.findings]


def test_noise_in_one_message_is_found_there() -> None:
    assert _found(_guard("perplexity"), _request(BREAD, BREAD + NOISE, "Thank you.")) == [BREAD + NOISE]


def test_erased_harm_is_found_behind_a_suffix(map_folder: Path) -> None:
    harmful = builtin("malicious", "calibration").texts[2]
    guard = _guard("erase-and-check", map=str(map_folder), tokens=12)
    attacked = harmful + " !" * 6  # a space is a token of its own here
    assert _found(guard, _request(BREAD, attacked)) == [attacked]


def test_what_the_copies_refuse_is_found() -> None:
    harmful = builtin("malicious", "calibration").texts[2]
    guard = _guard("smoothllm", copies=5, rate=0.02, change="patch")
    assert _found(guard, _request(harmful, BREAD)) == [harmful]


def test_only_what_users_say_in_requests_is_read() -> None:
    guard = _guard("perplexity", threshold=0.01)
    system, said = Message("system", "Be kind" + NOISE), Message("assistant", "Well" + NOISE)
    assert _found(guard, _request(system, said, BREAD, " ")) == [BREAD]
    assert _found(_guard("perplexity", threshold=0.01), Passage("output", BREAD + NOISE)) == []
    assert _found(_guard("perplexity", threshold=0.01), Passage("input", BREAD)) == [BREAD]  # no messages: all of it


def test_a_share_of_normal_prompts_is_allowed_for() -> None:
    texts = builtin("normal", "calibration").texts
    assert len(_found(_guard("perplexity", false_positives=0.05), _request(*texts))) == 6


def test_a_model_that_gives_no_number_passes_nothing(tmp_path: Path) -> None:
    model = random_chat_model("Llama")
    with torch.no_grad():
        model.model.get_output_embeddings().get_parameter("weight").fill_(float("nan"))
    model.save(tmp_path)
    guard = make_guard("mine", "perplexity", {"local": {"source": str(tmp_path)}, "threshold": 5.0})
    assert _checked(guard, _request(BREAD)) == [Failure("mine", "error", "mine: the model gives no number.")]


def test_what_cannot_be_loaded_passes_nothing(tmp_path: Path, map_folder: Path) -> None:
    guard = make_guard("mine", "perplexity", {"local": {"source": str(tmp_path / "none")}})
    verdict = asyncio.run(run_guard(guard, _request(BREAD), timeout=30))
    assert isinstance(verdict, Failure)
    model = random_chat_model("Llama")
    model.save(tmp_path / "other")
    other = make_guard(
        "mine", "erase-and-check", {"local": {"source": str(tmp_path / "other")}, "map": str(map_folder)}
    )
    with pytest.raises(WrongModelError):
        asyncio.run(open_guard(other))


def test_a_check_that_takes_too_long_is_left_behind_while_others_go_on() -> None:
    guard = _guard("smoothllm", copies=200)

    async def scenario() -> None:
        await open_guard(guard)
        slow = asyncio.ensure_future(run_guard(guard, _request(BREAD * 5), timeout=0.02))
        began = time.monotonic()
        await asyncio.sleep(0.01)
        assert time.monotonic() - began < 1.0  # the loop is free meanwhile
        verdict = await slow
        assert isinstance(verdict, Failure)
        assert verdict.kind == "timeout"
        await close_guard(guard)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("perplexity", {}, "local"),
        ("perplexity", {"local": {"source": "tiny"}, "windw": 3}, "windw"),
        ("erase-and-check", {"local": {"source": "tiny"}}, "map"),
        ("erase-and-check", {"local": {"source": "tiny"}, "map": "m", "mode": "prefix"}, "mode"),
        ("smoothllm", {"local": {"source": "tiny"}, "rate": 2}, "rate"),
    ],
)
def test_wrong_settings_are_said_when_the_policy_is_read(kind: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        make_guard("mine", kind, settings)
