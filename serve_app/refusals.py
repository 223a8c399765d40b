"""Errors as JSON answers: what was found, expected and to do; never a traceback."""

from __future__ import annotations

import logging
import uuid

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from ray.exceptions import RayActorError
from ray.serve.exceptions import RayServeException
from starlette.exceptions import HTTPException

from fleetcast.errors import (
    AuditError,
    AuthenticationError,
    ConflictError,
    ContractError,
    FleetCastError,
    NotFoundError,
    PermissionDeniedError,
    StorageFullError,
    StoreError,
    UsageError,
)
from serve_app.formats import NotAcceptableError
from serve_app.rates import TooManyRequestsError
from serve_app.schemas import ErrorAnswer
from serve_app.services import BusyError, NoSuchThingError, TooLargeError, UnavailableError
from serve_app.windows import TooLateError

logger = logging.getLogger("ray.serve")

RETRY_AFTER_S = 2
_STATUS: tuple[tuple[type[FleetCastError], int, str], ...] = (
    (AuthenticationError, 401, "unauthorized"),
    (PermissionDeniedError, 403, "forbidden"),
    (NoSuchThingError, 404, "not_found"),
    (NotFoundError, 404, "not_found"),
    (NotAcceptableError, 406, "not_acceptable"),
    (ConflictError, 409, "conflict"),
    (AuditError, 409, "audit"),
    (TooLargeError, 413, "too_large"),
    (TooManyRequestsError, 429, "too_many_requests"),
    (BusyError, 429, "busy"),
    (ContractError, 422, "contract"),
    (UsageError, 422, "usage"),
    (TooLateError, 503, "unavailable"),
    (UnavailableError, 503, "unavailable"),
    (StorageFullError, 507, "storage_full"),
    (StoreError, 503, "unavailable"),
)


def answer(status: int, error: str, detail: str) -> JSONResponse:
    """An error answer."""
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    if status in (429, 503):
        headers["Retry-After"] = str(RETRY_AFTER_S)
    return JSONResponse(ErrorAnswer(error=error, detail=detail).model_dump(), status, headers)


def refuse(error: Exception) -> JSONResponse:
    """The answer to an error, of this process or of another deployment."""
    for kind, status, word in _STATUS:
        if isinstance(error, kind):
            return answer(status, word, _message(error))
    if isinstance(error, RayServeException | RayActorError):
        return answer(503, "unavailable", "a part of the service does not answer or has too much to do; try again")
    number = uuid.uuid4().hex[:12]
    logger.error("error %s", number, exc_info=error)
    return answer(500, "internal", f"the service failed; its log says more under the number {number}")


def add_handlers(app: FastAPI) -> None:
    """Let the application answer all errors this way."""

    async def of_error(_: Request, error: Exception) -> JSONResponse:
        return refuse(error)

    async def of_http(_: Request, error: Exception) -> JSONResponse:
        status = error.status_code if isinstance(error, HTTPException) else 500
        detail = str(error.detail) if isinstance(error, HTTPException) else ""
        found = answer(status, {404: "not_found", 405: "method", 413: "too_large"}.get(status, "request"), detail)
        found.headers.update((isinstance(error, HTTPException) and error.headers) or {})
        return found

    async def of_request(_: Request, error: Exception) -> JSONResponse:
        found = error.errors() if isinstance(error, RequestValidationError) else []
        places = [f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in found[:5]]
        return answer(422, "request", "; ".join(places) or "the request is not what the API expects")

    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(RequestValidationError, of_request)
    for kind in (FleetCastError, RayServeException, RayActorError):
        app.add_exception_handler(kind, of_error)
    app.add_exception_handler(Exception, of_error)  # these are raised again after the answer


def _message(error: Exception) -> str:
    """The message as it was raised: an error of another deployment carries its traceback around it."""
    cause = getattr(error, "cause", None)
    return str(cause if isinstance(cause, FleetCastError) else error)
