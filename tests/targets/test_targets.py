"""Targets: a model here and a server over HTTP say the same, and each says what it cannot do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from oversee.servers import running
from safetylayers.errors import EndpointError, UsageError
from safetylayers.models import ChatModel
from safetylayers.prompts import render
from safetylayers.targets import ChatClient, ModelTarget, UrlTarget
from support import random_chat_model

PROMPTS = ["What is the capital of France?", "What is 2 plus 3?"]


class Server:
    """A chat server with a model behind it, that can be told to err."""

    def __init__(self, target: ModelTarget) -> None:
        self.target = target
        self.errors: list[Response] = []
        self.seen: list[dict[str, object]] = []
        self.app = FastAPI()
        self.app.post("/v1/chat/completions")(self.answer)

    async def answer(self, request: Request) -> Response:
        body = await request.json()
        self.seen.append({"key": request.headers.get("authorization"), **body})
        if self.errors:
            return self.errors.pop(0)
        texts = [message["content"] for message in body["messages"]]
        opening = texts[1] if len(texts) > 1 else ""
        (reply,) = self.target.reply(texts[:1], openings=[opening])
        message = {"role": "assistant", "content": opening + reply.text}
        return JSONResponse({"choices": [{"message": message}], "usage": {"total_tokens": reply.tokens}})


@pytest.fixture
def here() -> ModelTarget:
    return ModelTarget(random_chat_model("Llama"), max_new_tokens=8)


@pytest.fixture
def server(here: ModelTarget) -> Iterator[tuple[Server, ChatClient]]:
    made = Server(here)
    with running(made.app) as address:
        yield made, ChatClient(f"{address}/v1", "m", first_wait=0.01, attempts=3)


def test_a_model_goes_on_from_openings_and_counts_tokens(here: ModelTarget) -> None:
    begun = here.reply(PROMPTS, openings=["Sure", ""])
    model = here.model
    texts = render(PROMPTS, model.tokenizer)
    expected = model.generate([texts[0] + "Sure", texts[1]], max_new_tokens=8)
    assert [reply.text for reply in begun] == expected
    assert begun[1] == here.reply(PROMPTS)[1]
    read, wrote = model.tokenizer([texts[1], expected[1]], add_special_tokens=False).input_ids
    assert begun[1].tokens == len(read) + len(wrote)
    with pytest.raises(UsageError, match="2 prompts but 1 openings"):
        here.reply(PROMPTS, openings=["Sure"])


def test_a_server_with_the_same_model_replies_the_same(
    here: ModelTarget, server: tuple[Server, ChatClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    made, client = server
    there = UrlTarget(client, max_new_tokens=8)
    assert there.reply(PROMPTS, openings=["Sure", ""]) == here.reply(PROMPTS, openings=["Sure", ""])
    assert {row["key"] for row in made.seen} == {"Bearer k"}
    assert {row["temperature"] for row in made.seen} == {0}
    assert there.weights_hash == ""
    assert "k" not in vars(client).values()


def test_passing_troubles_are_asked_again_and_lasting_ones_told(server: tuple[Server, ChatClient]) -> None:
    made, client = server
    there = UrlTarget(client, max_new_tokens=8)
    made.errors = [Response(status_code=503), JSONResponse({"odd": 1})]
    assert there.reply(PROMPTS[:1])[0].text
    made.errors = [Response(status_code=429)] * 3
    with pytest.raises(EndpointError, match="after 3 attempts: status 429"):
        there.reply(PROMPTS[:1])
    made.errors = [Response(status_code=401)]
    with pytest.raises(EndpointError, match="status 401"):
        there.reply(PROMPTS[:1])
    with pytest.raises(EndpointError, match="ConnectError"):
        UrlTarget(ChatClient("http://127.0.0.1:9/v1", "m", attempts=1)).reply(PROMPTS[:1])


def test_a_reply_that_was_filtered_is_withheld(server: tuple[Server, ChatClient]) -> None:
    made, client = server
    choice = {"message": {"content": "Not here."}, "finish_reason": "content_filter"}
    made.errors = [JSONResponse({"choices": [choice]})]
    filtered, plain = UrlTarget(client, max_new_tokens=2, parallel=1).reply(PROMPTS)
    assert (filtered.withheld, plain.withheld) == (True, False)


def test_progress_is_told_for_each_reply(server: tuple[Server, ChatClient]) -> None:
    told: list[tuple[int, int]] = []
    UrlTarget(server[1], max_new_tokens=2).reply(PROMPTS, progress=lambda done, total, _: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]


def test_odd_addresses_and_closed_clients_are_refused() -> None:
    with pytest.raises(UsageError, match="is no address"):
        ChatClient("localhost:8000", "m")
    with pytest.raises(UsageError, match="above zero"):
        ChatClient("http://x", "m", attempts=0)
    with pytest.raises(UsageError, match="closed"):
        ChatClient("http://127.0.0.1:9", "m").ask([])


def test_tiny_replies_through_a_target() -> None:
    assert "Paris" in ModelTarget(ChatModel.load("tiny")).reply(PROMPTS)[0].text
