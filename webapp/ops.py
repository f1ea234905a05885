"""What operating the control plane needs: JSON logs, errors to Sentry if asked, metrics, health.

In:    the application and its settings.
Out:   one log line per request; /livez, /readyz; /metrics.
Laws:  1. No token, key, cookie or body in a log or an error report. 2. /livez asks no store; /readyz asks PostgreSQL
       (and its schema's revision); Redis away is reported and does not end readiness, since nothing is lost without it.
       3. /metrics answers only a caller on this machine who came through no proxy.
Not here: metrics of the edge (edge.telemetry).
"""

from __future__ import annotations

import ipaddress
import logging
import sys
import time
from collections.abc import MutableMapping
from typing import Any, Final

import structlog
from alembic.script import ScriptDirectory
from flask import Flask, Response, abort, g, jsonify, request
from prometheus_client import CollectorRegistry
from prometheus_flask_exporter import PrometheusMetrics
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from webapp.auth.callers import request_id
from webapp.extensions import MIGRATIONS, db, redis_client
from webapp.settings import Settings

_SECRET_FIELDS: Final = frozenset({"authorization", "cookie", "set-cookie", "x-api-key", "x-csrf-token"})
_QUIET: Final = frozenset({"/livez", "/readyz", "/metrics"})
_log = structlog.get_logger("webapp.request")


def init_app(app: Flask, settings: Settings) -> None:
    configure_logs(settings)
    _init_sentry(settings)
    _init_metrics(app)
    app.before_request(_begin)
    app.after_request(_finish)
    app.add_url_rule("/livez", "livez", livez)
    app.add_url_rule("/readyz", "readyz", readyz)


def configure_logs(settings: Settings) -> None:
    """One JSON object a line on stdout, for our own loggers and for those of libraries."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO if settings.is_production else logging.DEBUG),
        logger_factory=_stdout_logger,
        cache_logger_on_first_use=False,
    )


def _stdout_logger(*_names: object) -> structlog.PrintLogger:
    # Looked up at each use: a test or a daemon may have put another stream in its place.
    return structlog.PrintLogger(sys.stdout)


def _init_sentry(settings: Settings) -> None:
    if settings.sentry_dsn is None:
        return
    import sentry_sdk

    sentry_sdk.init(
        dsn=settings.sentry_dsn,
        environment=settings.env,
        send_default_pii=False,
        include_local_variables=False,
        max_request_body_size="never",
        before_send=scrub,  # type: ignore[arg-type]
    )


def scrub(event: MutableMapping[str, Any], _hint: object) -> MutableMapping[str, Any]:
    """Take out of an error report what could open a door."""
    sent = event.get("request", {})
    sent.pop("cookies", None)
    sent.pop("data", None)
    sent.pop("query_string", None)
    headers = sent.get("headers", {})
    for name in [name for name in headers if name.lower() in _SECRET_FIELDS]:
        headers[name] = "[removed]"
    return event


def _init_metrics(app: Flask) -> None:
    # A registry of its own for each application: tests make many.
    metrics = PrometheusMetrics(
        app, path=None, group_by="url_rule", defaults_prefix="console", registry=CollectorRegistry(auto_describe=True)
    )

    def show() -> Response:
        if not _is_local():
            abort(404)
        body, kind = metrics.generate_metrics()
        return Response(body, content_type=kind)

    app.add_url_rule("/metrics", "metrics", metrics.do_not_track()(show))


def _is_local() -> bool:
    if any(name in request.headers for name in ("X-Forwarded-For", "Forwarded", "Via", "X-Real-Ip")):
        return False
    try:
        return ipaddress.ip_address(request.remote_addr or "").is_loopback
    except ValueError:
        return False


def _begin() -> None:
    g.began_mono = time.monotonic()
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request_id())


def _finish(response: Response) -> Response:
    response.headers.setdefault("X-Request-Id", request_id())
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    if request.path not in _QUIET:
        actor = g.get("actor")
        _log.info(
            "request.done",
            method=request.method,
            rule=str(request.url_rule) if request.url_rule else None,
            status=response.status_code,
            duration_ms=round((time.monotonic() - g.get("began_mono", time.monotonic())) * 1_000, 1),
            tenant_id=str(actor.tenant_id) if actor else None,
        )
    return response


def livez() -> Response:
    return Response("ok\n", content_type="text/plain; charset=utf-8")


def readyz() -> tuple[Response, int]:
    """503 unless PostgreSQL answers and its schema is the one this program was built for."""
    found: dict[str, str] = {"database": _database_state(), "redis": _redis_state()}
    ready = found["database"] == "ok"
    return jsonify(ready=ready, **found), 200 if ready else 503


def _database_state() -> str:
    try:
        with db.engine.connect() as connection:
            revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    except (SQLAlchemyError, RuntimeError) as error:
        return f"away: {type(error).__name__}"
    head = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    return "ok" if revision == head else f"schema is {revision}, not {head}; run the migrations"


def _redis_state() -> str:
    try:
        redis_client().ping()
    except RedisError as error:
        return f"away: {type(error).__name__}"
    return "ok"
