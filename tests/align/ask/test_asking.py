"""Which question comes next, how it is shown, and what is made of the answer."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from safetylayers.align.ask import asking as asking_module
from safetylayers.align.ask.active import STRATEGIES, Strategy
from safetylayers.align.ask.asking import KEYS, Asking, Progress
from safetylayers.align.ask.choosing import START, Candidates, read_questions
from safetylayers.align.ask.labels import Labels
from safetylayers.align.ask.questions import Question
from safetylayers.align.bayes import Array
from safetylayers.errors import UsageError
from safetylayers.models import ChatModel
from safetylayers.records import Rate
from safetylayers.tiny.choices import WEIGHTS, choose, requests

TRUE = np.array([3.0, -2.0, 1.0, 0.0, 0.0, 0.0])


def question(number: int, value: str = "") -> Question:
    return Question.of(
        ({"role": "user", "content": f"Question {number}?"},), f"Yes {number}.", f"No {number}.", value=value
    )


def differences(count: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((count, len(TRUE)))


Opened = Callable[..., Asking]


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    """Open a sitting on the one store, as a process does that is started anew."""

    def begin(count: int = 60, values: tuple[str, ...] = ("",), **options: object) -> Asking:
        questions = tuple(question(number, values[number % len(values)]) for number in range(count))
        return Asking(Candidates(questions, differences(count)), Labels(tmp_path / "labels.db"), **options)  # type: ignore[arg-type]

    return begin


def reply(asking: Asking, by: str, *, weights: Array = TRUE, rng: np.random.Generator | None = None) -> bool:
    """Answer the next question as these weights say, noisily with a generator; return whether there was one."""
    shown = asking.next(by)
    if shown is None:
        return False
    worth = float(asking.candidates.differences[asking.candidates.place[shown.question.id]] @ weights)
    first = worth > 0 if rng is None else bool(rng.random() < expit(worth))
    asking.answer(by, shown.question.id, "1" if (shown.one == shown.question.first) == first else "2")
    return True


def test_the_next_question_stays_until_it_is_answered_and_none_comes_twice(opened: Opened) -> None:
    asking = opened(12)
    seen = []
    while (shown := asking.next("ann")) is not None:
        assert asking.next("ann") == shown
        seen.append(shown.question.id)
        asking.answer("ann", shown.question.id, KEYS[len(seen) % 4])
    assert sorted(seen) == sorted(each.id for each in asking.candidates.questions)
    assert opened(12).next("ann") is None
    assert opened(12).next("bea") is not None


def test_what_was_clicked_is_what_is_kept_whichever_side_it_stood_on(opened: Opened, tmp_path: Path) -> None:
    asking, clicked = opened(60), {}
    for number in range(40):
        shown = asking.next("ann")
        assert shown is not None
        key = "12"[number % 2]
        clicked[shown.question.id] = shown.one if key == "1" else shown.two
        asking.answer("ann", shown.question.id, key)
    chosen = {
        label.question: getattr(asking.candidates.questions[asking.candidates.place[label.question]], label.answer)
        for label in Labels(tmp_path / "labels.db").current()
    }
    assert chosen == clicked


def test_sides_are_drawn_for_each_person_and_stay_for_each_question(opened: Opened) -> None:
    asking = opened(200)
    orders = [
        [asking.show(each, by).one == each.first for each in asking.candidates.questions]
        for by in ("ann", "bea", "ann")
    ]
    assert orders[0] == orders[2] != orders[1]
    assert all(70 < sum(order) < 130 for order in orders)
    other = opened(200, seed=1)
    assert [other.show(each, "ann").one == each.first for each in other.candidates.questions] != orders[0]


def test_a_budget_counts_earlier_sittings_and_no_skipped_questions(opened: Opened) -> None:
    asking = opened(20, budget=5)
    for _ in range(3):
        assert reply(asking, "ann")
    shown = asking.next("ann")
    assert shown is not None
    asking.answer("ann", shown.question.id, "s")
    assert (asking.progress("ann").answered, asking.progress("ann").total) == (3, 5)
    again = opened(20, budget=5)
    assert len(again.left("ann")) == 2
    assert reply(again, "ann")
    assert reply(again, "ann")
    assert not reply(again, "ann")
    assert again.left("ann") == []
    assert str(again.progress("ann")) == "5 of 5 answered"


def test_undo_asks_the_last_question_again_and_then_the_one_before(opened: Opened) -> None:
    asking = opened(20)
    assert not asking.undo("ann")
    seen = []
    for _ in range(7):  # more than a batch
        shown = asking.next("ann")
        assert shown is not None
        seen.append(shown.question.id)
        reply(asking, "ann")
    reply(asking, "bea")
    for before in (seen[6], seen[5]):
        assert asking.undo("ann")
        shown = asking.next("ann")
        assert shown is not None
        assert shown.question.id == before
    assert asking.progress("ann").answered == 5
    assert asking.progress("bea").answered == 1


def test_space_around_a_name_makes_nobody_else_of_them(opened: Opened) -> None:
    asking = opened(20, budget=3)
    for _ in range(3):
        assert reply(asking, "ann ")
    assert not reply(asking, " ann")
    assert asking.left(" ann ") == []
    assert asking.progress("ann ").answered == asking.progress("ann").answered == 3
    for each in asking.candidates.questions:
        assert asking.show(each, "ann ") == asking.show(each, "ann")
    assert asking.undo("ann ")
    shown = asking.next("ann")
    assert shown is not None
    assert asking.next(" ann ") == shown
    assert list(asking.record().people) == ["ann"]


def test_whoever_is_nobody_is_told_at_every_turn(opened: Opened) -> None:
    asking = opened(4)
    shown = asking.candidates.questions[0]
    for turn in (asking.next, asking.left, asking.undo, asking.progress, lambda by: asking.show(shown, by)):
        with pytest.raises(UsageError, match="no name"):
            turn(" ")


def test_questions_are_drawn_unless_somebody_wants_them_chosen(opened: Opened) -> None:
    assert opened(4).record().strategy == "random"


def test_two_processes_on_one_store_do_not_ask_the_same_twice(opened: Opened) -> None:
    one, other = opened(10), opened(10)
    for asking in (one, other) * 5:
        assert reply(asking, "ann")
    assert one.next("ann") is None
    assert other.next("ann") is None
    assert one.record().people["ann"].answers == 10


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_repeats_itself_and_the_first_questions_are_drawn(
    opened: Opened, strategy: Strategy, tmp_path: Path
) -> None:
    asking = opened(60, strategy=strategy, budget=15)
    while reply(asking, "ann"):
        pass
    asked = [label.question for label in Labels(tmp_path / "labels.db").current()]
    again = Asking(asking.candidates, Labels(tmp_path / "again.db"), strategy=strategy, budget=15)
    while reply(again, "ann"):
        pass
    assert [label.question for label in Labels(tmp_path / "again.db").current()] == asked
    drawn = Asking(asking.candidates, Labels(tmp_path / "drawn.db"), strategy="random", budget=START)
    assert [each.id for each in drawn.left("ann")] == asked[:START]


def test_chosen_questions_teach_more_than_drawn_ones(tmp_path: Path) -> None:
    candidates = Candidates(tuple(map(question, range(300))), differences(300))
    test = differences(1000, seed=1)
    found: dict[str, list[float]] = {"information": [], "random": []}
    for strategy, seed in itertools.product(found, range(5)):
        labels = Labels(tmp_path / f"{strategy}-{seed}.db")
        asking = Asking(candidates, labels, strategy=strategy, budget=30, seed=seed)  # type: ignore[arg-type]
        while reply(asking, "ann"):
            pass
        right = [label.answer == "first" for label in labels.current()]
        places = [candidates.place[label.question] for label in labels.current()]
        signs = np.where(right, 1.0, -1.0)[:, None]
        known = candidates.fit(candidates.differences[places] * signs, ["ann"] * len(places))
        found[strategy].append(float((np.sign(test @ known.mean) == np.sign(test @ TRUE)).mean()))
    assert np.mean(found["information"]) > np.mean(found["random"]) + 0.02


def test_values_take_turns(opened: Opened) -> None:
    asking = opened(40, values=("honesty", "courtesy"), budget=20)
    while reply(asking, "ann"):
        pass
    values = [asking.candidates.questions[asking.candidates.place[label.question]].value for label in asking._current()]
    assert values.count("honesty") == values.count("courtesy") == 10
    assert {each.value for each in opened(40, values=("honesty", "courtesy"), budget=20).left("bea")[:10]} == {
        "honesty", "courtesy",
    }  # fmt: skip


def test_accuracy_is_of_answers_that_the_reward_has_not_seen(opened: Opened, tmp_path: Path) -> None:
    asking = opened(200, strategy="random", budget=80)
    assert asking.progress("ann").accuracy is None
    while reply(asking, "ann"):
        pass
    accuracy = asking.progress("ann").accuracy
    assert accuracy is not None
    assert accuracy.total >= 70  # judged now and then
    assert accuracy.value > 0.85
    guessed = []
    for seed in range(8):
        coin = Asking(asking.candidates, Labels(tmp_path / f"coin{seed}.db"), strategy="random", budget=80)
        rng = np.random.default_rng(seed)
        while reply(coin, "ann", weights=0 * TRUE, rng=rng):
            pass
        found = coin.progress("ann").accuracy
        assert found is not None
        guessed.append(found.value)
    assert abs(np.mean(guessed) - 0.5) < 0.05, guessed  # two standard errors of 640 answers, and a bit


def test_whoever_guesses_is_set_apart_and_not_averaged_away(opened: Opened) -> None:
    asking, rng = opened(80, strategy="random", budget=80), np.random.default_rng(0)
    for by, weights in (("ann", TRUE), ("bea", TRUE), ("cem", TRUE), ("dan", 0 * TRUE)):
        while reply(asking, by, weights=weights, rng=rng):
            pass
    record = asking.record()
    assert {name for name, person in record.people.items() if person.apart} == {"dan"}
    reliability = {name: person.reliability or 0 for name, person in record.people.items()}
    assert reliability["dan"] < 0.5 * min(reliability[name] for name in ("ann", "bea", "cem"))


def test_time_to_go_is_told_by_the_median(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(asking_module.time, "monotonic", lambda: now[0])
    asking = opened(50, budget=13)
    assert str(asking.progress("ann")) == "0 of 13 answered"
    for seconds in (20, 20, 4000):  # a break in between
        asking.next("ann")
        now[0] += seconds
        reply(asking, "ann")
    assert asking.progress("ann").seconds_left == 200
    assert str(asking.progress("ann")) == "3 of 13 answered, about 3 minutes to go"
    assert str(Progress(1, 2, 61.0, None)) == "1 of 2 answered, about 1 minute to go"
    assert str(Progress(1, 2, 5.0, Rate(count=1, total=2))) == "1 of 2 answered, less than a minute to go"


def test_what_makes_no_sense_is_refused(opened: Opened, tmp_path: Path) -> None:
    asking = opened(4)
    for by, id_, key in (
        ("ann", "none", "1"),
        ("ann", asking.candidates.questions[0].id, "3"),
        (" ", question(0).id, "1"),
    ):
        with pytest.raises(UsageError):
            asking.answer(by, id_, key)
    for options in ({"batch": 0}, {"budget": -1}):
        with pytest.raises(UsageError):
            Asking(asking.candidates, Labels(tmp_path / "labels.db"), **options)
    with pytest.raises(UsageError):
        Candidates(asking.candidates.questions, differences(3))


def test_on_the_practice_model_a_reward_is_learned_that_foresees_planted_choices(
    tmp_path: Path, tiny: ChatModel
) -> None:
    asked = requests(120, seed=3)
    worth = {each.text: each.reward(WEIGHTS) for request in asked for each in request.replies}
    pairs = choose(asked, seed=3)
    questions = tuple(Question.of(pair.messages, pair.chosen, pair.rejected) for pair in pairs)
    read = read_questions(tiny, questions, layers=range(tiny.n_layers))
    assert read.shape[0] == len(questions)
    asking = Asking(Candidates(questions, read), Labels(tmp_path / "labels.db"), strategy="random", budget=120)
    while (shown := asking.next("ann")) is not None:
        asking.answer("ann", shown.question.id, "1" if worth[shown.one] >= worth[shown.two] else "2")
    accuracy = asking.record().accuracy
    assert accuracy is not None
    assert accuracy.value > 0.6
