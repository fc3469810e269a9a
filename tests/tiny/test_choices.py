"""The planted world: what replies are worth is known, and nothing of it is reported on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from safetylayers.prompts import load_pairs
from safetylayers.tiny.choices import VALUES, WEIGHTS, Planted, choose, demonstrations, requests
from safetylayers.tiny.corpus.mixture import is_reported
from safetylayers.tiny.value_rows import write_rows


def test_requests_have_several_replies_and_are_not_reported_on() -> None:
    asked = requests(60, seed=0)
    assert {request.kind for request in asked} == {"malicious", "normal", "question"}
    for request in asked:
        assert not is_reported(request.text)
        assert len({reply.text for reply in request.replies}) == 4
        assert all(set(reply.worth) == set(VALUES) for reply in request.replies)


def test_one_seed_is_one_world() -> None:
    assert requests(5, seed=3) == requests(5, seed=3) != requests(5, seed=4)
    asked = requests(20, seed=3)
    assert choose(asked, seed=1) == choose(asked, seed=1) != choose(asked, seed=2)


def test_choices_follow_the_planted_reward_as_often_as_bradley_and_terry_say() -> None:
    asked = requests(400, seed=0)
    worth = {(r.text, reply.text): reply.reward(WEIGHTS) for r in asked for reply in r.replies}
    gaps = np.array([worth[p.prompt, p.chosen] - worth[p.prompt, p.rejected] for p in choose(asked, seed=0)])
    expected = np.mean(1 / (1 + np.exp(-np.abs(gaps[gaps != 0]))))
    assert abs(np.mean(gaps[gaps != 0] > 0) - expected) < 0.05
    coin = [worth[p.prompt, p.chosen] > worth[p.prompt, p.rejected] for p in choose(asked, seed=0, shuffled=True)]
    assert 0.3 < np.mean(coin) < 0.6


def test_a_choice_about_one_value_is_about_that_value() -> None:
    asked = requests(100, seed=0)
    worth = {(r.text, reply.text): reply.worth for r in asked for reply in r.replies}
    for pair in choose(asked, about="courtesy", seed=0):
        assert pair.value == "courtesy"
        assert worth[pair.prompt, pair.chosen]["courtesy"] != worth[pair.prompt, pair.rejected]["courtesy"]


def test_demonstrations_are_the_best_that_can_be_said() -> None:
    asked = requests(30, seed=0)
    for request, shown in zip(asked, demonstrations(asked), strict=True):
        best = max(reply.reward(WEIGHTS) for reply in request.replies)
        assert next(r for r in request.replies if r.text == shown.response).reward(WEIGHTS) == best


def test_any_text_is_worth_what_a_planted_reply_of_its_kind_is() -> None:
    for request in requests(200, seed=1):
        for reply in request.replies:
            assert request.worth(reply.text) == reply.worth


def test_text_that_says_nothing_helps_nobody_and_a_lead_in_changes_nothing() -> None:
    asked = {request.kind: request for request in requests(60, seed=2)}
    for request in asked.values():
        assert request.worth("blah blah")["helpfulness"] == -1.0
        assert request.worth("")["helpfulness"] == -1.0
    question = asked["question"]
    assert question.worth(f"Sure: The answer is {question.answer}.")["honesty"] == 1.0
    assert question.worth("Gladly. 31415")["honesty"] == -1.0
    assert question.worth("Gladly. 31415")["courtesy"] == 1.0
    assert asked["malicious"].worth("Sure. Here is a start.")["harmlessness"] == -1.0
    assert asked["normal"].worth("Sure. Here is a start.")["harmlessness"] == 1.0


def test_the_planted_reward_scores_any_text_without_doubt() -> None:
    asked = requests(20, seed=3)
    turns = [({"role": "user", "content": request.text},) for request in asked]
    found = Planted(asked)(turns, [request.replies[0].text for request in asked])
    assert found.mean.tolist() == [request.replies[0].reward(WEIGHTS) for request in asked]
    assert not found.deviation.any()
    assert Planted(asked).content_hash != Planted(asked, {"courtesy": 1.0}).content_hash


def test_rows_to_practise_on_share_no_request_with_those_to_watch_on(tmp_path: Path) -> None:
    counts = write_rows(tmp_path, count=80)
    read = {
        name: [json.loads(line)["prompt"] for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        for name in counts
    }
    assert {name: len(rows) for name, rows in read.items()} == counts
    assert counts["watch"] >= 15
    learned = set(read["pairs"]) | set(read["replies"]) | set(read["demonstrations"])
    assert not set(read["watch"]) & (learned | set(read["prompts"]))
    assert not set(read["prompts"]) & learned
    assert len(load_pairs(tmp_path / "pairs.jsonl")) == counts["pairs"]
