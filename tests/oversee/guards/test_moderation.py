from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from oversee.guards.streaming import CUTS, streamed, whole
from oversee.servers import running
from safetylayers.errors import GuardError
from safetylayers.oversee.guards import Passage, Verdict, make_guard
from safetylayers.oversee.guards.moderation import ModerationGuard, ModerationSettings

SOUND = {"flagged": False, "categories": {}, "category_scores": {"violence": 0.1}}


class Moderator:
    """A moderation server that takes some words for harm, or does what a test says."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.answer: Callable[[], Awaitable[Response]] | None = None
        self.app = Starlette(routes=[Route("/v1/moderations", self._moderate, methods=["POST"])])

    async def _moderate(self, request: Request) -> Response:
        body = await request.json()
        self.seen.append(body)
        self.keys.append(request.headers.get("authorization"))
        if self.answer is not None:
            return await self.answer()
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        return JSONResponse({"id": "m", "model": body["model"], "results": [self._result(text) for text in texts]})

    @staticmethod
    def _result(text: str) -> dict[str, Any]:
        violent, other = "knife" in text, "fraud" in text
        return {
            "flagged": violent or other,
            "categories": {"violence": violent, "fraud": other},
            "category_scores": {"violence": 0.9 if violent else 0.1, "fraud": 0.8 if other else 0.2},
        }


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Moderator, str]]:
    moderator = Moderator()
    with running(moderator.app) as address:
        yield moderator, f"{address}/v1"


@pytest.fixture
def moderator(server: tuple[Moderator, str]) -> Moderator:
    found, _ = server
    found.seen, found.keys, found.answer = [], [], None
    return found


@pytest.fixture
def url(server: tuple[Moderator, str], moderator: Moderator) -> str:
    return server[1]


def _guard(at: str, **others: Any) -> ModerationGuard:
    plain = {"url": at, "model": "guard-1", "every": 10, "context": 6}
    return ModerationGuard("moderation", ModerationSettings.model_validate({**plain, **others}))


async def _check(guard: ModerationGuard, passage: Passage) -> Verdict:
    try:
        return await guard.check(passage)
    finally:
        await guard.aclose()


def _findings(guard: ModerationGuard, text: str) -> list[tuple[str, float | None]]:
    verdict = asyncio.run(_check(guard, Passage("input", text)))
    return [(finding.kind, finding.score) for finding in verdict.findings]


def test_what_is_over_its_threshold_is_found_with_its_score(url: str) -> None:
    guard = _guard(url, thresholds={"violence": 0.5})
    assert guard.kinds == ("violence", "flagged")
    assert _findings(guard, "a knife") == [("violence", 0.9)]
    assert _findings(guard, "a spoon") == []


def test_what_the_server_flags_for_other_reasons_is_flagged(url: str) -> None:
    assert _findings(_guard(url), "a knife") == [("flagged", None)]
    assert _findings(_guard(url, thresholds={"violence": 0.5}), "a fraud") == [("flagged", None)]
    assert _findings(_guard(url, thresholds={"violence": 0.5}), "knife, fraud") == [
        ("violence", 0.9),
        ("flagged", None),
    ]


def test_ones_own_threshold_goes_before_the_servers(url: str) -> None:
    assert _findings(_guard(url, thresholds={"violence": 0.95}), "a knife") == []
    assert _findings(_guard(url, thresholds={"violence": 0.05}), "a spoon") == [("violence", 0.1)]


def test_a_reply_is_held_back_until_a_window_is_whole(url: str, moderator: Moderator) -> None:
    async def scenario() -> None:
        guard = _guard(url)
        assert await guard.check(Passage("output", "a spoon", final=False)) == Verdict(0)
        assert moderator.seen == []
        verdict = await guard.check(Passage("output", "a spoon and a kni", final=False))
        assert verdict == Verdict(10)
        verdict = await guard.check(Passage("output", "a spoon and a knife", start=10))
        assert verdict.checked == 19
        assert [(found.kind, found.start, found.end) for found in verdict.findings] == [("flagged", 10, 19)]
        assert [body["input"] for body in moderator.seen] == ["a spoon an", "oon and a knife"]
        await guard.aclose()

    asyncio.run(scenario())


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(["knife", "fraud", "spoon", " "]), max_size=12).map("".join), CUTS)
def test_cuts_change_nothing(server: tuple[Moderator, str], text: str, cuts: list[float]) -> None:
    guard = _guard(server[1], thresholds={"violence": 0.5})

    async def both() -> bool:
        try:
            return await streamed(guard, text, cuts) == await whole(guard, text)
        finally:
            await guard.aclose()

    assert asyncio.run(both())


def test_the_key_comes_from_a_file_or_a_variable_each_time(
    url: str, moderator: Moderator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "key"
    file.write_text("first\n")
    guard = _guard(url, key_file=str(file))
    _findings(guard, "x")
    file.write_text("second")
    _findings(guard, "x")
    monkeypatch.setenv("MODERATION_KEY", "third")
    _findings(_guard(url, key_variable="MODERATION_KEY"), "x")
    _findings(_guard(url), "x")
    assert moderator.keys == ["Bearer first", "Bearer second", "Bearer third", None]


@pytest.mark.parametrize("content", [None, "", "two\nlines", "kéy"])
def test_a_key_that_is_none_is_an_error_that_does_not_show_it(url: str, tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "key").write_text(content)
    with pytest.raises(GuardError, match="key") as caught:
        _findings(_guard(url, key_file=str(tmp_path / "key")), "x")
    assert not content or content not in str(caught.value)


async def _slow() -> Response:
    await asyncio.sleep(0.6)
    return JSONResponse({"results": [SOUND]})


def _answers(response: Response) -> Callable[[], Awaitable[Response]]:
    async def answer() -> Response:
        return response

    return answer


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (_answers(PlainTextResponse("knife", status_code=500)), "status 500"),
        (_answers(JSONResponse({"results": [SOUND]}, status_code=201)), "status 201"),
        (_answers(RedirectResponse("/v1/other")), "status 307"),
        (_answers(PlainTextResponse("knife")), "not JSON"),
        (_answers(JSONResponse({"results": []})), "one result for each text"),
        (_answers(JSONResponse({"results": [SOUND, SOUND]})), "one result for each text"),
        (_answers(JSONResponse(["knife"])), "one result for each text"),
        (_answers(JSONResponse({"results": ["knife"]})), "whether a text is flagged"),
        (_answers(JSONResponse({"results": [{**SOUND, "flagged": "no"}]})), "whether a text is flagged"),
        (_answers(JSONResponse({"results": [{"flagged": False}]})), "without a score of violence"),
        (_answers(JSONResponse({"results": [{**SOUND, "category_scores": {"violence": None}}]})), "without a score"),
        (_answers(JSONResponse({"results": [{**SOUND, "category_scores": {"violence": True}}]})), "without a score"),
        (_slow, "TimeoutError"),
    ],
)
def test_whatever_is_no_proper_answer_is_an_error(
    url: str, moderator: Moderator, answer: Callable[[], Awaitable[Response]], message: str
) -> None:
    moderator.answer = answer
    with pytest.raises(GuardError, match=message) as caught:
        _findings(_guard(url, thresholds={"violence": 0.5}, seconds=0.3), "a knife")
    assert "knife" not in str(caught.value)


def test_a_score_that_is_no_number_is_an_error(url: str, moderator: Moderator) -> None:
    body = '{"results": [{"flagged": false, "category_scores": {"violence": NaN}}]}'
    moderator.answer = _answers(PlainTextResponse(body))
    with pytest.raises(GuardError, match="without a score"):
        _findings(_guard(url, thresholds={"violence": 0.5}), "x")


def test_a_server_that_is_not_there_is_an_error() -> None:
    with pytest.raises(GuardError, match="cannot be asked"):
        _findings(_guard("http://127.0.0.1:9/v1"), "x")


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "localhost:8000"},
        {"url": "file:///v1"},
        {"url": "http://user:word@localhost/v1"},
        {"key_file": "a", "key_variable": "B"},
        {"thresholds": {"violence": 1.5}},
        {"every": 0},
        {"seconds": 0},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        _guard("http://127.0.0.1:9/v1", **wrong)


def test_it_is_known_by_its_kind() -> None:
    guard = make_guard("mine", "moderation", {"url": "http://127.0.0.1:9/v1", "model": "m"})
    assert (guard.name, guard.kinds) == ("mine", ("flagged",))
