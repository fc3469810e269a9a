"""From an HTTP request to a case: who asks, for what, and whether that is within the limits."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect, Request

from safetylayers.errors import AccessError
from safetylayers.oversee.gateway.case import Case
from safetylayers.oversee.gateway.errors import RequestError
from safetylayers.oversee.gateway.seeds import other_seed
from safetylayers.oversee.identity.principal import Principal
from safetylayers.oversee.identity.roles import Right
from safetylayers.oversee.words import Ask, Message, Sampling

if TYPE_CHECKING:
    from safetylayers.oversee.gateway.house import House

CONVERSATION, RETRY = "x-conversation-id", "x-retry-of"
NAME = re.compile(r"[A-Za-z0-9_.:-]{1,80}")


def new_id(kind: str) -> str:
    """Return a name that nobody can guess."""
    return f"{kind}-{secrets.token_hex(12)}"


async def authenticated(house: House, request: Request) -> Principal:
    """Return whose key came with a request.

    Raises:
        RequestError: there is none, or it is not valid.
        BusyError: it has asked too often in the last minute.
        StoreError: keys cannot be looked up.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise RequestError(
            "A key is missing: send it as 'Authorization: Bearer KEY'.", status=401, code="invalid_api_key"
        )
    try:
        principal = await house.authenticate(token.strip())
        house.paces.take(principal)
        return principal
    except AccessError as error:
        raise RequestError(str(error), status=401, code="invalid_api_key") from error


async def read_body(request: Request, *, most: int) -> bytes:
    """Read a request's body, and no more of it than is allowed.

    Raises:
        RequestError: it is too long, no JSON by its own account, or broke off.
    """
    if not request.headers.get("content-type", "").lower().startswith("application/json"):
        raise RequestError("The body has to be application/json.", status=415, code="unsupported_media_type")
    parts, length = [], 0
    try:
        async for part in request.stream():
            length += len(part)
            if length > most:
                raise RequestError(f"The request is longer than {most:,} bytes.", status=413, code="request_too_large")
            parts.append(part)
    except ClientDisconnect as error:
        raise RequestError("The request broke off.", status=400) from error
    return b"".join(parts)


def name_in(request: Request, header: str) -> str | None:
    """Return a name that a caller gave in a header: a conversation, or a request that this one repeats.

    Raises:
        RequestError: it is no name.
    """
    name = request.headers.get(header)
    if name is not None and not NAME.fullmatch(name):
        raise RequestError(f"{header}: letters, digits and _.:- only, at most 80.", code="invalid_header", param=header)
    return name


def check_model(house: House, principal: Principal, model: str) -> None:
    """Raise RequestError unless this model exists and this key may ask it."""
    if not principal.may(Right.ASK):
        raise RequestError("This key may not ask models.", status=403, code="not_allowed")
    if model not in house.engine.models or not principal.may_ask(model):
        raise RequestError(f"{model!r}: no such model for this key.", status=404, code="model_not_found", param="model")


def check_alternatives(sampling: Sampling, *, most: int, param: str) -> None:
    """Raise RequestError where more likely tokens are asked for, by this field, than the policy lets out."""
    if (sampling.logprobs or 0) > most:
        raise RequestError(
            f"This policy names at most {most} likely tokens beside each one (limits.alternatives).",
            param=param,
            code="not_allowed_by_policy",
        )


def open_case(
    house: House,
    principal: Principal,
    request: Request,
    *,
    kind: str,
    model: str,
    messages: tuple[Message, ...],
    make_ask: Callable[[str, int], Ask],
    replies: int,
    stream: bool,
) -> Case:
    """Put together what is known of a request. Raises RequestError where it is beyond the policy's limits."""
    enforced = house.shelf.current
    limits = enforced.policy.limits
    if replies > limits.choices:
        raise RequestError(f"At most {limits.choices} replies to one request.", param="n")
    if len(messages) > limits.messages:
        raise RequestError(f"At most {limits.messages} messages in one conversation.", param="messages")
    name = new_id("req")
    return Case(
        id=name,
        principal=principal,
        enforced=enforced,
        kind=kind,
        model=model,
        messages=messages,
        conversation=name_in(request, CONVERSATION),
        retry_of=name_in(request, RETRY),
        stream=stream,
        asks=[make_ask(f"{name}/{place}", place) for place in range(replies)],
    )


def seeded(sampling: Sampling, place: int) -> Sampling:
    """Return sampling for the reply at this place: with one seed for all of them, they would all be the same."""
    if sampling.seed is None or place == 0:
        return sampling
    return replace(sampling, seed=other_seed(sampling.seed, "choice", place))
