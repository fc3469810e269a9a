"""What the gateway says of itself in /openapi.json, held against what it does."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case

from oversee.gateway.conftest import Gateway, Starter
from safetylayers.oversee.gateway.endpoints import ROUTES
from safetylayers.oversee.gateway.openapi import describe

MODEL = "mock"
POLICY = "{version: 1, name: plain, limits: {alternatives: 20, choices: 1}}"


def of_this_gateway(*, streams: bool = False) -> schemathesis.BaseSchema:
    """The description, with what only one deployment can say: its model, and what policy and server upstream allow."""
    described: dict[str, Any] = copy.deepcopy(describe())
    completion = described["components"]["schemas"]["CompletionRequest"]
    for request in (described["components"]["schemas"]["ChatRequest"], completion):
        request["properties"]["model"] = {"const": MODEL}
        request["properties"]["n"]["anyOf"][0]["maximum"] = 1
        if streams:
            request["properties"]["stream"] = {"const": True}
            request["required"].append("stream")
    completion["properties"]["prompt"]["anyOf"][1]["maxItems"] = 1
    completion["properties"]["max_tokens"]["anyOf"][0]["minimum"] = 1
    scored = {"echo": {"const": True}, "logprobs": {"type": "integer"}}
    completion["not"] = {"required": list(scored), "properties": scored}
    described["paths"]["/v1/models/{model}"]["get"]["parameters"][0]["schema"] = {"const": MODEL}
    return schemathesis.openapi.from_dict(described)


bounded = settings(
    max_examples=25,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # one gateway for all examples is what is wanted
)


@pytest.fixture
def gateway(start: Starter) -> Iterator[Gateway]:
    with start(POLICY) as begun:
        yield begun


@of_this_gateway().parametrize()
@bounded
def test_every_operation_answers_as_it_is_described(case: Case, gateway: Gateway) -> None:
    case.call_and_validate(base_url=gateway.address, headers={"Authorization": f"Bearer {gateway.key}"})


@of_this_gateway(streams=True).include(path_regex="/completions$").parametrize()
@bounded
def test_streams_are_as_they_are_described(case: Case, gateway: Gateway) -> None:
    gateway.upstream.pause = 0.001
    # A request that is wrong in that it asks for no stream is none to this description alone.
    if isinstance(case.body, dict) and case.body.get("stream") is True:
        case.call_and_validate(base_url=gateway.address, headers={"Authorization": f"Bearer {gateway.key}"})


def test_the_description_is_valid_and_tells_of_every_route(gateway: Gateway) -> None:
    served = httpx.get(f"{gateway.address}/openapi.json").json()
    schemathesis.openapi.from_dict(served).validate()
    described = {(method.upper(), path) for path, operations in served["paths"].items() for method in operations}
    assert described == {(method, path.replace(":path", "")) for method, path, _ in ROUTES}
