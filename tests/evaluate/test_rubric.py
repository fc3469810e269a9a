from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from safetylayers.errors import JudgeError, UsageError
from safetylayers.evaluate import RubricJudge, Verdict
from safetylayers.evaluate.judges import Judgement, ScoringJudge

KEY = "sk-very-secret-key"
Answer = Callable[[int, dict[str, Any]], tuple[int, str]]


class Endpoint:
    """A real server on this machine that answers as a test wants, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.answer: Answer = lambda _, body: (200, completion("REFUSED: yes\nHARMFULNESS: 1"))
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.asked.append({"path": self.path, **body})
                endpoint.keys.append(self.headers["Authorization"])
                status, text = endpoint.answer(len(endpoint.asked), body)
                try:
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(text.encode())))
                    self.end_headers()
                    self.wfile.write(text.encode())
                except OSError:
                    return  # the judge did not wait

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"


def completion(content: object) -> str:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]})


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    found = Endpoint()
    thread = threading.Thread(target=found.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    found.server.shutdown()
    thread.join()
    found.server.server_close()


def judge_of(endpoint: Endpoint, **options: Any) -> RubricJudge:
    return RubricJudge(endpoint.url, "grader", **{"first_wait": 0.01, "attempts": 3, "timeout": 5.0, **options})


def test_a_well_behaved_endpoint_grades_every_reply_in_order(endpoint: Endpoint) -> None:
    def answer(_: int, body: dict[str, Any]) -> tuple[int, str]:
        refused = "I cannot" in body["messages"][1]["content"]
        return 200, completion("REFUSED: yes\nHARMFULNESS: 1" if refused else " refused: No\nHarmfulness: 5\n")

    endpoint.answer = answer
    judge = judge_of(endpoint)
    found = judge.assess(["a"] * 3, ["I cannot help.", "Here is how.", ""])
    assert found == [Judgement(Verdict.REFUSED, 1), Judgement(Verdict.COMPLIED, 5), Judgement(Verdict.INCOHERENT)]
    assert judge.judge(["a"], ["Here is how."]) == [Verdict.COMPLIED]
    assert isinstance(judge, ScoringJudge)
    assert len(endpoint.asked) == 3  # gibberish is not sent
    first = endpoint.asked[0]
    assert (first["path"], first["model"], first["temperature"]) == ("/v1/chat/completions", "grader", 0)


def test_request_and_reply_are_sent_as_material(endpoint: Endpoint) -> None:
    judge_of(endpoint).judge(["How?"], ["Like this."])
    system, user = endpoint.asked[0]["messages"]
    assert (system["role"], user["role"]) == ("system", "user")
    assert "<request>\nHow?\n</request>" in user["content"]
    assert "<reply>\nLike this.\n</reply>" in user["content"]


def test_the_key_comes_from_the_environment_and_goes_nowhere_else(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("GRADER_KEY", KEY)
    endpoint.answer = lambda *_: (401, "wrong key")
    judge = judge_of(endpoint, key_variable="GRADER_KEY")
    with pytest.raises(JudgeError, match="status 401") as caught:
        judge.judge(["a"], ["Here is how."])
    assert endpoint.keys == [f"Bearer {KEY}"]
    assert KEY not in str(caught.value) + caplog.text + repr(vars(judge))
    assert "GRADER_KEY" in caught.value.mend


def test_without_a_key_none_is_sent(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    judge_of(endpoint).judge(["a"], ["Here is how."])
    assert endpoint.keys == [None]


def test_a_passing_trouble_is_tried_again(endpoint: Endpoint) -> None:
    endpoint.answer = lambda count, _: (
        (503, "busy") if count == 1 else (200, completion("maybe 3?" if count == 2 else "REFUSED: no\nHARMFULNESS: 3"))
    )
    assert judge_of(endpoint).assess(["a"], ["Here is how."]) == [Judgement(Verdict.COMPLIED, 3)]
    assert len(endpoint.asked) == 3


def test_waits_grow_between_attempts(endpoint: Endpoint) -> None:
    times: list[float] = []

    def answer(*_: object) -> tuple[int, str]:
        times.append(time.monotonic())
        return 500, "broken"

    endpoint.answer = answer
    with pytest.raises(JudgeError, match="status 500"):
        judge_of(endpoint, first_wait=0.05).judge(["a"], ["Here is how."])
    assert times[1] - times[0] >= 0.05
    assert times[2] - times[1] >= 0.1


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "{}",
        '{"choices": []}',
        "[1]",
        completion(None),
        completion("5"),
        completion("REFUSED: no\nHARMFULNESS: 6"),
        completion("REFUSED: no\nHARMFULNESS: 4.5"),
        completion("REFUSED: perhaps\nHARMFULNESS: 4"),
        completion("I think so.\nREFUSED: no\nHARMFULNESS: 4"),
        completion("REFUSED: no\nHARMFULNESS: 4\nHARMFULNESS: 1"),
    ],
)
def test_an_answer_in_any_other_form_is_never_guessed_at(endpoint: Endpoint, text: str) -> None:
    endpoint.answer = lambda *_: (200, text)
    with pytest.raises(JudgeError, match="no verdict after 2 attempts"):
        judge_of(endpoint, attempts=2).judge(["a"], ["Here is how."])
    assert len(endpoint.asked) == 2


@pytest.mark.parametrize("status", [400, 403, 404])
def test_an_error_that_will_not_pass_ends_at_once(endpoint: Endpoint, status: int) -> None:
    endpoint.answer = lambda *_: (status, "no")
    with pytest.raises(JudgeError, match=f"status {status}"):
        judge_of(endpoint).judge(["a"], ["Here is how."])
    assert len(endpoint.asked) == 1


def test_a_stalling_endpoint_times_out(endpoint: Endpoint) -> None:
    def answer(*_: object) -> tuple[int, str]:
        time.sleep(0.5)
        return 200, completion("REFUSED: no\nHARMFULNESS: 3")

    endpoint.answer = answer
    with pytest.raises(JudgeError, match="ReadTimeout"):
        judge_of(endpoint, timeout=0.1, attempts=2).judge(["a"], ["Here is how."])


def test_an_endpoint_that_is_not_there_is_a_judge_error() -> None:
    judge = RubricJudge("http://127.0.0.1:9/v1", "grader", attempts=2, first_wait=0)
    with pytest.raises(JudgeError, match="ConnectError") as caught:
        judge.judge(["a"], ["Here is how."])
    assert "endpoint runs" in caught.value.mend


@pytest.mark.parametrize("options", [{"attempts": 0}, {"timeout": 0}, {"parallel": 0}, {"first_wait": -1}])
def test_numbers_must_make_sense(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        RubricJudge("http://127.0.0.1:9/v1", "grader", **options)


def test_an_address_must_be_one() -> None:
    with pytest.raises(UsageError, match="no address"):
        RubricJudge("localhost:8000", "grader")
