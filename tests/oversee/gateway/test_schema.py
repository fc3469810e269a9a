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


def of_this_gateway() -> dict[str, Any]:
    """The description, with what only one deployment can say: its model, and what its policy allows."""
    described: dict[str, Any] = copy.deepcopy(describe())
    for name in ("ChatRequest", "CompletionRequest"):
        fields = described["components"]["schemas"][name]["properties"]
        fields["model"] = {"const": MODEL}
        fields["n"] = {"type": "integer", "minimum": 1, "maximum": 1}
    described["components"]["schemas"]["CompletionRequest"]["properties"]["prompt"]["anyOf"][1]["maxItems"] = 1
    return described


DESCRIBED = schemathesis.openapi.from_dict(of_this_gateway())


@pytest.fixture
def gateway(start: Starter) -> Iterator[Gateway]:
    with start(POLICY) as begun:
        yield begun


@DESCRIBED.parametrize()
@settings(
    max_examples=25,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_every_operation_answers_as_it_is_described(case: Case, gateway: Gateway) -> None:
    case.call_and_validate(base_url=gateway.address, headers={"Authorization": f"Bearer {gateway.key}"})
