"""The API's description, from the same models that read requests and write answers."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from safetylayers.oversee.gateway.answers import (
    ChatChunk,
    ChatCompletion,
    Completion,
    ErrorAnswer,
    Health,
    Model,
    ModelList,
    ModerationAnswer,
)
from safetylayers.oversee.gateway.requests import CONVERSATION, NAME, RETRY
from safetylayers.oversee.gateway.schemas import ChatRequest, CompletionRequest, ModerationRequest

_SCHEMAS = "#/components/schemas/{model}"
Described = tuple[str, str, str, type[BaseModel] | None, type[BaseModel] | None, bool, tuple[int, ...]]

ASKING = (400, 401, 403, 404, 413, 415, 429, 502, 503)
PATHS: tuple[Described, ...] = (
    ("post", "/v1/chat/completions", "Answer a conversation.", ChatRequest, ChatCompletion, True, ASKING),
    ("post", "/v1/completions", "Go on from a text.", CompletionRequest, Completion, True, ASKING),
    ("post", "/v1/moderations", "Say what is found in texts.", ModerationRequest, ModerationAnswer, True, ASKING),
    ("get", "/v1/models", "List models.", None, ModelList, True, (401, 503)),
    ("get", "/v1/models/{model}", "Tell of one model.", None, Model, True, (401, 403, 404, 503)),
    ("get", "/health", "Whether the process answers.", None, Health, False, ()),
    ("get", "/ready", "Whether requests are served.", None, Health, False, ()),
    ("get", "/metrics", "Numbers for Prometheus.", None, None, False, ()),
)


_STREAMED: dict[type[BaseModel] | None, type[BaseModel]] = {ChatCompletion: ChatChunk, Completion: Completion}
"""What an answer's parts are, where it is streamed."""
_HEADERS = {
    CONVERSATION: "Name of the conversation; an operator's word can hold for all of it.",
    RETRY: "Name (x-request-id) of the request that this one repeats, after an operator has reversed what was decided.",
}


@cache
def describe() -> dict[str, Any]:
    """Return the OpenAPI document."""
    from safetylayers import __version__

    requests = [path[3] for path in PATHS if path[3]]
    answers = [path[4] for path in PATHS if path[4]] + [*_STREAMED.values(), ErrorAnswer]
    # A field with a default may be left out by callers, but is never left out by the gateway.
    named, found = models_json_schema(
        [(model, "validation") for model in requests] + [(model, "serialization") for model in set(answers)],
        ref_template=_SCHEMAS,
    )
    schemas: dict[Any, Any] = {model: reference for (model, _), reference in named.items()}
    paths: dict[str, Any] = {}
    for method, path, summary, body, answer, keyed, errors in PATHS:
        paths.setdefault(path, {})[method] = _operation(path, summary, body, answer, keyed, errors, schemas)
    return {
        "openapi": "3.2.0",
        "info": {"title": "safetylayers", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": found["$defs"],
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(
    path: str,
    summary: str,
    body: type[BaseModel] | None,
    answer: type[BaseModel] | None,
    keyed: bool,
    errors: tuple[int, ...],
    schemas: dict[Any, Any],
) -> dict[str, Any]:
    content = (
        {"application/json": {"schema": schemas[answer]}} if answer else {"text/plain": {"schema": {"type": "string"}}}
    )
    if answer in _STREAMED:
        content["text/event-stream"] = _events(schemas[_STREAMED[answer]], schemas[ErrorAnswer])
    responses: dict[str, Any] = {"200": {"description": "Done.", "content": content}}
    failed = {"description": "Not done.", "content": {"application/json": {"schema": schemas[ErrorAnswer]}}}
    responses |= {str(status): failed for status in errors}
    if path == "/ready":
        responses["503"] = {"description": "Not serving.", "content": content}
    operation: dict[str, Any] = {"summary": summary, "responses": responses}
    if body:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schemas[body]}}}
    if keyed:
        operation["security"] = [{"key": []}]
    if "{model}" in path:
        operation["parameters"] = [{"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}]
    if answer in _STREAMED:
        operation["parameters"] = [_header(name, text) for name, text in _HEADERS.items()]
    return operation


def _header(name: str, text: str) -> dict[str, Any]:
    schema = {"type": "string", "pattern": f"^{NAME.pattern}$"}
    return {"name": name, "in": "header", "required": False, "description": text, "schema": schema}


def _events(part: dict[str, Any], error: dict[str, Any]) -> dict[str, Any]:
    """Return what a stream's events are: parts of the answer, at worst an error, and the word that it is complete."""
    text = {"type": "string", "contentMediaType": "application/json", "contentSchema": {"anyOf": [part, error]}}
    data = {"anyOf": [{"const": "[DONE]"}, text]}
    return {"itemSchema": {"type": "object", "required": ["data"], "properties": {"data": data}}}
