"""Put the stand-in together and serve it on loopback.

In:    a folder, a port, the console's URL.
Out:   a Flask app; `serve` blocks.
Laws:  1. Refuses VANTAGEEDGE_ENV=production, and any address but 127.0.0.1. 2. Answers across origins go to loopback
       origins only, with credentials. 3. A request with a foreign Host is refused (DNS rebinding).
Not here: the endpoints.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from flask import Flask, Response, request
from gevent.pywsgi import WSGIServer
from werkzeug.wrappers import Response as AnyResponse

from devstack.child import DevstackError, loopback_listener
from devstack.clerk import (
    api_key_api,
    application_api,
    backend_api,
    controls,
    frontend_api,
    machine_api,
    oauth_api,
    outages,
    pages,
)
from devstack.clerk.instance import Instance, asking_origin, instance, refuse
from devstack.clerk.keys import SigningKeys

_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'; "
    "form-action 'self' http://localhost:* http://127.0.0.1:*"  # a form's redirect counts too
)


def create_app(folder: Path, host: str, console_url: str) -> Flask:
    """Make the app for an instance at `host` (127.0.0.1:port). Raises DevstackError in production."""
    if os.environ.get("VANTAGEEDGE_ENV", "").strip().lower() == "production":
        raise DevstackError("the stand-in for Clerk never runs with VANTAGEEDGE_ENV=production")
    app = Flask(__name__)
    app.extensions["clerk_instance"] = Instance(folder, host, console_url, SigningKeys(folder))
    for part in (frontend_api, oauth_api, pages, controls, backend_api, machine_api, application_api, api_key_api):
        app.register_blueprint(part.blueprint)
    app.before_request(_guard)
    app.after_request(_finish)
    app.wsgi_app = _method_override(app.wsgi_app)  # type: ignore[method-assign]
    return app


def serve(folder: Path, port: int, console_url: str) -> None:
    """Serve until the process ends. Raises DevstackError when the port is taken."""
    app = create_app(folder, f"127.0.0.1:{port}", console_url)
    server = WSGIServer(loopback_listener(port), app, log=None)
    server.serve_forever()


def _guard() -> AnyResponse | None:
    here = instance()
    if request.host not in (here.host, here.host.replace("127.0.0.1", "localhost")):
        return refuse(400, "host_invalid", f"this instance lives at {here.host}")
    here.counts[str(request.url_rule) if request.url_rule is not None else "none"] += 1
    if request.path.startswith("/__dev/"):
        return None
    away = outages.answer(request.path)
    if away is not None:
        return away
    if request.method == "OPTIONS":
        return Response(status=204)
    return None


def _finish(response: Response) -> Response:
    origin = asking_origin()
    if origin is not None:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Allow-Credentials"] = "true"
        response.headers["Access-Control-Allow-Methods"] = "GET, POST, PATCH, DELETE, OPTIONS"
        response.headers["Access-Control-Allow-Headers"] = "Content-Type, Authorization, Clerk-Db-Jwt"
        response.headers["Vary"] = "Origin"
    elif request.path.startswith("/.well-known/"):
        response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["X-Content-Type-Options"] = "nosniff"
    if response.mimetype == "text/html":
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["Cache-Control"] = "no-store"
    return response


def _method_override(app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """ClerkJS sends DELETE and PATCH as POST with `?_method=`, to spare the preflight."""

    def wrapped(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "POST" and "_method=" in environ.get("QUERY_STRING", ""):
            method = parse_qs(environ["QUERY_STRING"]).get("_method", [""])[0].upper()
            if method in ("DELETE", "PATCH", "PUT"):
                environ["REQUEST_METHOD"] = method
        return app(environ, start)

    return wrapped
