"""What callers can ask."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from safetylayers.errors import EngineError
from safetylayers.oversee.gateway.answers import Health, Model, ModelList
from safetylayers.oversee.gateway.chat import ChatShape, chat_ask, messages_of
from safetylayers.oversee.gateway.completions import CompletionShape, completion_ask
from safetylayers.oversee.gateway.errors import RequestError
from safetylayers.oversee.gateway.generation import Serving, created
from safetylayers.oversee.gateway.house import House
from safetylayers.oversee.gateway.moderations import moderate
from safetylayers.oversee.gateway.requests import authenticated, check_alternatives, check_model, open_case, read_body
from safetylayers.oversee.gateway.schemas import ChatRequest, CompletionRequest, ModerationRequest, parse
from safetylayers.oversee.identity.roles import Right
from safetylayers.oversee.modes.mode import Mode
from safetylayers.oversee.words import Message

STARTED = created()


async def chat(house: House, request: Request) -> Response:
    """Answer a conversation."""
    principal = await authenticated(house, request)
    house.must_run()
    limits = house.shelf.current.policy.limits
    body = parse(ChatRequest, await read_body(request, most=limits.body_bytes))
    check_model(house, principal, body.model)
    messages = messages_of(body)
    sampling = body.sampling(most=limits.max_tokens, default=limits.default_tokens)
    check_alternatives(sampling, most=limits.alternatives, param="top_logprobs")
    case = open_case(
        house,
        principal,
        request,
        kind="chat",
        model=body.model,
        messages=messages,
        make_ask=lambda name, place: chat_ask(name, place, body, messages, sampling),
        replies=body.n or 1,
        stream=bool(body.stream),
    )
    shape = ChatShape(logprobs=bool(body.logprobs))
    usage = bool(body.stream_options and body.stream_options.include_usage)
    release = house.take_slot()
    return await Serving(house, case, shape, tell_usage=usage).answer(request, release)


async def complete(house: House, request: Request) -> Response:
    """Go on from a text."""
    principal = await authenticated(house, request)
    house.must_run()
    limits = house.shelf.current.policy.limits
    body = parse(CompletionRequest, await read_body(request, most=limits.body_bytes))
    check_model(house, principal, body.model)
    sampling = body.sampling(most=limits.max_tokens, default=limits.default_tokens)
    check_alternatives(sampling, most=limits.alternatives, param="logprobs")
    case = open_case(
        house,
        principal,
        request,
        kind="completion",
        model=body.model,
        messages=tuple(Message("user", prompt) for prompt in body.prompts),
        make_ask=lambda name, place: completion_ask(name, place, body, sampling),
        replies=len(body.prompts) * (body.n or 1),
        stream=bool(body.stream),
    )
    shape = CompletionShape(logprobs=body.logprobs is not None, echo=bool(body.echo))
    usage = bool(body.stream_options and body.stream_options.include_usage)
    release = house.take_slot()
    return await Serving(house, case, shape, tell_usage=usage).answer(request, release)


async def moderations(house: House, request: Request) -> Response:
    """Say what the guards, and the monitors inside the model, find in texts."""
    principal = await authenticated(house, request)
    if not principal.may(Right.ASK):
        raise RequestError("This key may not ask.", status=403, code="not_allowed")
    house.must_run()
    limits = house.shelf.current.policy.limits
    body = parse(ModerationRequest, await read_body(request, most=limits.body_bytes))
    release = house.take_slot()
    try:
        async with asyncio.timeout(limits.reply_seconds):
            return _json(await moderate(house, principal, body.texts))
    except TimeoutError as error:
        raise EngineError("Reading took longer than the policy allows.", mend="Send fewer texts.") from error
    finally:
        release()


async def models(house: House, request: Request) -> Response:
    """List the models that this key may ask."""
    principal = await authenticated(house, request)
    named = [name for name in house.engine.models if principal.may_ask(name)]
    return _json(ModelList(data=[Model(id=name, created=STARTED) for name in named]))


async def model(house: House, request: Request) -> Response:
    """Tell of one model."""
    principal = await authenticated(house, request)
    name = request.path_params["model"]
    check_model(house, principal, name)
    return _json(Model(id=name, created=STARTED))


async def alive(_house: House, _request: Request) -> Response:
    """Say that the process answers; whether it serves is what readiness says."""
    return _json(Health(status="ok", mode="unknown"))


async def ready(house: House, _request: Request) -> Response:
    """Say whether requests would be served now. Whoever asks is told the mode and no more: no key is needed."""
    state = house.keeper.state
    serving = state.mode is not Mode.STOPPED
    health = Health(status="ok" if serving else "unavailable", mode=state.mode)
    return _json(health, status=200 if serving else 503)


async def metrics(house: House, _request: Request) -> Response:
    """Tell Prometheus."""
    house.metrics.running.set(len(house.live))
    for mode in Mode:
        house.metrics.mode.labels(mode).set(house.keeper.state.mode is mode)
    return Response(generate_latest(house.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _json(answer: BaseModel, *, status: int = 200) -> Response:
    return Response(answer.model_dump_json().encode(), status_code=status, media_type="application/json")


ROUTES: tuple[tuple[str, str, Callable[[House, Request], Awaitable[Response]]], ...] = (
    ("POST", "/v1/chat/completions", chat),
    ("POST", "/v1/completions", complete),
    ("POST", "/v1/moderations", moderations),
    ("GET", "/v1/models", models),
    ("GET", "/v1/models/{model:path}", model),
    ("GET", "/health", alive),
    ("GET", "/ready", ready),
    ("GET", "/metrics", metrics),
)
