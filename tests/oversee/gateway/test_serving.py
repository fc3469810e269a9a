"""The OpenAI API, in front of a real server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai import APIError, AuthenticationError, BadRequestError, NotFoundError, OpenAI

from oversee.gateway.conftest import Gateway, Starter

REDACTING = """
version: 1
name: redacting
guards:
  secrets: {kind: patterns, action: redact, settings: {patterns: {code: 'K-[0-9]{4}'}}}
"""
BLOCKING = REDACTING.replace("redact", "block")


def openai(gateway: Gateway) -> OpenAI:
    return OpenAI(base_url=f"{gateway.address}/v1", api_key=gateway.key, max_retries=0)


def said(client: OpenAI, **options: Any) -> str:
    reply = client.chat.completions.create(
        model="mock", messages=[{"role": "user", "content": "What is the capital of France?"}], **options
    )
    return reply.choices[0].message.content or ""


def streamed(client: OpenAI, **options: Any) -> tuple[list[str], str | None]:
    parts, finish = [], None
    chunks = client.chat.completions.create(
        model="mock", messages=[{"role": "user", "content": "Hello"}], stream=True, **options
    )
    for chunk in chunks:
        for choice in chunk.choices:
            parts += [choice.delta.content] if choice.delta.content else []
            finish = choice.finish_reason or finish
    return parts, finish


def test_a_client_reads_what_the_model_said_streamed_and_not(start: Starter) -> None:
    with start() as gateway:
        client = openai(gateway)
        assert said(client) == gateway.upstream.text
        gateway.upstream.pause = 0.02
        parts, finish = streamed(client)
        assert "".join(parts) == gateway.upstream.text
        assert finish == "stop"
        assert len(parts) > 1


def test_usage_comes_with_a_stream_that_asks_for_it(start: Starter) -> None:
    with start() as gateway:
        chunks = list(
            openai(gateway).chat.completions.create(
                model="mock",
                messages=[{"role": "user", "content": "Hello"}],
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == 6


def test_completions_and_several_choices(start: Starter) -> None:
    with start() as gateway:
        client = openai(gateway)
        found = client.completions.create(model="mock", prompt=["The capital of", "It is"], n=2, max_tokens=5)
        assert [choice.text for choice in found.choices] == [gateway.upstream.text] * 4
        assert [body["prompt"] for body in gateway.upstream.seen] == ["The capital of"] * 2 + ["It is"] * 2
        chunks = list(client.completions.create(model="mock", prompt="x", n=2, stream=True))
        for place in range(2):
            text = "".join(choice.text for chunk in chunks for choice in chunk.choices if choice.index == place)
            assert text == gateway.upstream.text


def test_models_are_listed(start: Starter) -> None:
    with start() as gateway:
        client = openai(gateway)
        assert [model.id for model in client.models.list()] == ["mock"]
        assert client.models.retrieve("mock").id == "mock"
        with pytest.raises(NotFoundError):
            client.models.retrieve("other")


def test_requests_that_make_no_sense_are_told_why(start: Starter) -> None:
    with start() as gateway:
        client = openai(gateway)
        with pytest.raises(NotFoundError, match="no such model"):
            client.chat.completions.create(model="other", messages=[{"role": "user", "content": "x"}])
        with pytest.raises(BadRequestError, match="temperature"):
            said(client, temperature=9)
        with pytest.raises(BadRequestError, match=r"extra_thing: not supported"):
            said(client, extra_body={"extra_thing": 1})
        with pytest.raises(BadRequestError, match="tools"):
            said(client, tools=[{"type": "function", "function": {"name": "f"}}])
        for ids in ([1, 2], [[1, 2]]):
            with pytest.raises(BadRequestError, match="prompt: token ids are not taken"):
                client.completions.create(model="mock", prompt=ids)
        with gateway.client() as plain:
            assert plain.post("/v1/chat/completions", content=b"{").status_code == 415
            headers = {"content-type": "application/json"}
            broken = plain.post("/v1/chat/completions", content=b"{", headers=headers)
            assert broken.status_code == 400
            assert broken.json()["error"]["type"] == "invalid_request_error"
            long = plain.post("/v1/chat/completions", content=b"x" * 1_000_001, headers=headers)
            assert long.status_code == 413
            assert plain.get("/nowhere").json()["error"]["code"] == "not_found"
            assert plain.get("/v1/chat/completions").status_code == 405


def test_a_blocked_prompt_is_not_echoed_and_alternatives_are_the_policys_to_give(start: Starter) -> None:
    with start(BLOCKING) as gateway:
        client = openai(gateway)
        for stream in (False, True):
            answer = client.completions.create(model="mock", prompt="K-1234", echo=True, stream=stream)
            assert "K-1234" not in str(list(answer) if stream else answer)
        with pytest.raises(BadRequestError, match=r"limits\.alternatives"):
            said(client, logprobs=True, top_logprobs=3)
        with pytest.raises(BadRequestError, match=r"limits\.alternatives") as refused:
            client.completions.create(model="mock", prompt="Hello", logprobs=3)
        assert refused.value.param == "logprobs"


def test_a_wrong_key_opens_nothing(start: Starter) -> None:
    with start() as gateway:
        with pytest.raises(AuthenticationError):
            said(OpenAI(base_url=f"{gateway.address}/v1", api_key="sl-0000-wrong", max_retries=0))
        assert not gateway.entries("request")


def test_findings_are_redacted_in_replies_and_requests_streamed_and_not(start: Starter) -> None:
    with start(REDACTING) as gateway:
        client = openai(gateway)
        gateway.upstream.text = "Your code is K-12 34? No, it is K-1234, and that is all."
        wanted = "Your code is K-12 34? No, it is [removed], and that is all."
        assert said(client) == wanted
        gateway.upstream.pause = 0.01
        assert "".join(streamed(client)[0]) == wanted
        client.chat.completions.create(model="mock", messages=[{"role": "user", "content": "Is K-9999 mine?"}])
        assert gateway.upstream.seen[-1]["messages"][0]["content"] == "Is [removed] mine?"


def test_a_finding_that_blocks_ends_the_reply_and_is_never_seen(start: Starter) -> None:
    with start(BLOCKING) as gateway:
        client = openai(gateway)
        gateway.upstream.text = "one two three four five K-1234 six " * 20
        reply = client.chat.completions.create(model="mock", messages=[{"role": "user", "content": "Hello"}])
        assert reply.choices[0].finish_reason == "content_filter"
        assert "withheld" in (reply.choices[0].message.content or "")
        gateway.upstream.pause = 0.01
        parts, finish = streamed(client)
        assert finish == "content_filter"
        assert "K-" not in "".join(parts)
        blocked = client.chat.completions.create(model="mock", messages=[{"role": "user", "content": "K-1234"}])
        assert blocked.choices[0].finish_reason == "content_filter"
        assert len(gateway.upstream.seen) == 2


def test_every_reply_was_logged_before_it_left(start: Starter) -> None:
    with start() as gateway:
        reply = openai(gateway).chat.completions.create(
            model="mock", messages=[{"role": "user", "content": "What is the capital of France?"}]
        )
        requests, releases = gateway.entries("request"), gateway.entries("release")
        assert requests[-1].facts["request"] == reply.id
        assert releases[-1].facts["request"] == reply.id
        assert requests[-1].payload == {
            "messages": [{"role": "user", "content": "What is the capital of France?"}],
        }
        assert releases[-1].payload == {"text": gateway.upstream.text}
        assert "France" not in json.dumps(dict(releases[-1].facts))


def test_an_upstream_that_breaks_off_ends_the_stream_with_an_error(start: Starter) -> None:
    with start() as gateway:
        gateway.upstream.fault = "cut"
        gateway.upstream.pause = 0.01
        with pytest.raises(APIError, match="broke off"):
            streamed(openai(gateway))
        gateway.upstream.fault = "broken"
        with pytest.raises(APIError, match="refuses"):
            said(openai(gateway))


def test_the_gateway_reports_its_state(start: Starter) -> None:
    with start() as gateway, gateway.client() as client:
        said(openai(gateway))
        assert client.get("/health").json()["status"] == "ok"
        assert client.get("/ready").json() == {"status": "ok", "mode": "run"}
        numbers = client.get("/metrics").text
        assert 'safetylayers_requests_total{endpoint="/v1/chat/completions",status="200"} 1.0' in numbers
        assert 'safetylayers_mode{mode="run"} 1.0' in numbers
