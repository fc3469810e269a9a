"""Errors in the form of the OpenAI API: what clients already know how to show."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

from safetylayers.errors import (
    AccessError,
    AuditError,
    BusyError,
    EngineError,
    GuardError,
    ModeError,
    PromptError,
    SafetyLayersError,
    StoreError,
)

UNAVAILABLE = 503
_KINDS: tuple[tuple[type[SafetyLayersError], int, str, str], ...] = (
    (PromptError, 400, "invalid_request_error", "invalid_prompt"),
    (BusyError, 429, "rate_limit_error", "too_busy"),
    (ModeError, UNAVAILABLE, "service_unavailable", "stopped"),
    (EngineError, 502, "engine_error", "engine_failed"),
    (GuardError, UNAVAILABLE, "guard_error", "guard_failed"),
    (AuditError, UNAVAILABLE, "service_unavailable", "log_unavailable"),
    (StoreError, UNAVAILABLE, "service_unavailable", "store_unavailable"),
    (AccessError, 403, "permission_error", "not_allowed"),
)


class RequestError(SafetyLayersError):
    """A request that cannot be served as it is."""

    def __init__(
        self, message: str, *, status: int = 400, code: str = "invalid_request", param: str | None = None
    ) -> None:
        """Say what is wrong; `param` names the field."""
        super().__init__(message)
        self.status, self.code, self.param = status, code, param


def status_of(error: SafetyLayersError) -> int:
    """Return the HTTP status that says what kind of error this is."""
    return error.status if isinstance(error, RequestError) else _kind(error)[0]


def body_of(error: SafetyLayersError) -> dict[str, Any]:
    """Return the error as JSON can hold it."""
    if isinstance(error, RequestError):
        kind = {401: "authentication_error", 404: "not_found_error"}.get(error.status, "invalid_request_error")
        return _body(str(error), kind, error.code, error.param)
    _, kind, code = _kind(error)
    return _body(str(error), kind, code)


def response_of(error: SafetyLayersError, *, request_id: str = "") -> JSONResponse:
    """Return the error as a response."""
    headers = {"x-request-id": request_id} if request_id else {}
    status = status_of(error)
    if status in (429, UNAVAILABLE):
        headers["retry-after"] = "1"
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(body_of(error), status_code=status, headers=headers)


def _kind(error: SafetyLayersError) -> tuple[int, str, str]:
    return next((tuple_[1:] for tuple_ in _KINDS if isinstance(error, tuple_[0])), (500, "server_error", "failed"))


def _body(message: str, kind: str, code: str, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
