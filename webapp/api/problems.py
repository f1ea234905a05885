"""Everything the control plane answers that is not a success, as application/problem+json (RFC 9457).

In:    exceptions of services, of HTTP and of the stores.
Out:   problem responses under /api/; for pages, whatever the console put into `vantageedge.error_page`.
Laws:  1. An unexpected exception is logged whole and answered by one sentence. 2. A 404 of another tenant's thing and
       of a missing one are the same bytes, but for the request id.
       3. 401 carries a challenge, 405 Allow, 503 Retry-After.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from flask import Flask, current_app, make_response, request
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from contracts.problems import MEDIA_TYPE, PROBLEMS, Problem, problem_body
from webapp.auth.bearer import Unauthenticated
from webapp.auth.callers import request_id
from webapp.extensions import current_settings
from webapp.services.errors import NotFound, ServiceError, StoreUnavailable

_log = structlog.get_logger(__name__)
ErrorPage = Callable[[ServiceError], Any]
"""What the console may put into app.extensions["vantageedge.error_page"]."""

_OF_STATUS = {
    400: "json-malformed",
    404: "not-found",
    405: "method-not-allowed",
    413: "body-too-large",
    415: "media-type-unsupported",
}


class HttpProblem(ServiceError):
    """A refusal of HTTP's own: a slug that no service raises."""

    def __init__(self, slug: str, detail: str) -> None:
        super().__init__(detail)
        self._slug = slug

    @property
    def problem(self) -> Problem:
        return PROBLEMS[self._slug]


def register(app: Flask) -> None:
    app.register_error_handler(ServiceError, answer)
    app.register_error_handler(HTTPException, _of_http)
    app.register_error_handler(DBAPIError, _of_database)
    app.register_error_handler(PoolTimeout, _of_database)
    app.register_error_handler(Exception, _of_bug)


def answer(error: ServiceError) -> Any:
    """Give the response for an error: a problem for the API, a page for a browser."""
    page: ErrorPage | None = current_app.extensions.get("vantageedge.error_page")
    if page is not None and not request.path.startswith("/api/"):
        return page(error)
    return problem_response(error)


def problem_response(error: ServiceError) -> Response:
    problem = error.problem
    extra: dict[str, object] = dict(error.extra)
    if error.errors:
        extra["errors"] = [{"location": item.location, "message": item.message} for item in error.errors]
    body = problem_body(problem, error.detail, request_id(), extra)
    response = make_response(current_app.json.dumps(body), problem.status)
    response.headers["Content-Type"] = MEDIA_TYPE
    response.headers["Cache-Control"] = "no-store"
    if isinstance(error, Unauthenticated):
        response.headers["WWW-Authenticate"] = error.challenge
        if error.reason:
            response.headers["X-Clerk-Auth-Reason"] = error.reason
    if problem.status == 503:
        response.headers["Retry-After"] = "2"
    return response


def _of_http(error: HTTPException) -> Any:
    if error.response is not None:  # an answer somebody aborted with
        return error.response
    status = error.code or 500
    if status < 400:  # a redirect of the router
        return error.get_response()
    slug = _OF_STATUS.get(status, "internal-error" if status >= 500 else "request-malformed")
    known: ServiceError
    known = NotFound() if slug == "not-found" else HttpProblem(slug, error.description or PROBLEMS[slug].title)
    response = current_app.make_response(answer(known))
    if status == 405 and getattr(error, "valid_methods", None):
        response.headers["Allow"] = ", ".join(sorted(error.valid_methods))  # type: ignore[attr-defined]
    return response


def _of_database(error: Exception) -> Any:
    """A lost or overloaded database is 503; what else it says is a bug of ours."""
    if isinstance(error, OperationalError | PoolTimeout) or getattr(error, "connection_invalidated", False):
        _log.error("database.away", reason=type(getattr(error, "orig", error)).__name__)
        return answer(StoreUnavailable("The database is away or too busy. Nothing was changed; try again."))
    return _of_bug(error)


def _of_bug(error: Exception) -> Any:
    _log.error("request.failed", exc_info=error, path=request.path)
    if current_settings().sentry_dsn is not None:
        import sentry_sdk

        sentry_sdk.capture_exception(error)
    return answer(HttpProblem("internal-error", "Something failed here. The request id finds it in our log."))
