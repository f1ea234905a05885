"""What all endpoints of the stand-in share: its keys, its registry, its address, and the rules for origins.

In:    a folder, a host and port, the setting of the console's URL.
Out:   Instance; the answers' error form.
Laws:  1. Only loopback names may be redirected to or answered across origins. 2. Nothing here is for production.
Not here: the endpoints (frontend_api, backend_api, pages, controls).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from flask import Response, current_app, jsonify, request

from devstack.clerk import people
from devstack.clerk.keys import SigningKeys
from devstack.clerk.registry import Client, Registry


@dataclass(slots=True)
class Instance:
    folder: Path
    host: str
    console_url: str
    keys: SigningKeys
    registry: Registry = field(default_factory=Registry)
    outage: str = "off"

    @property
    def issuer(self) -> str:
        return f"http://{self.host}"

    @property
    def publishable_key(self) -> str:
        return people.publishable_key(self.host)

    @property
    def cookie_suffix(self) -> str:
        return people.cookie_suffix(self.publishable_key)


def instance() -> Instance:
    return cast(Instance, current_app.extensions["clerk_instance"])


def origin_of(url: str) -> str | None:
    """Give scheme://host[:port] of a loopback URL, else None."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return None
    loopback = host in ("localhost", "127.0.0.1", "::1") or host.endswith(".localhost")
    if parts.scheme not in ("http", "https") or not loopback or parts.username is not None or "\\" in url:
        return None
    return f"{parts.scheme}://{parts.netloc}"


def asking_origin() -> str | None:
    """Give the Origin header if it is one we answer."""
    header = request.headers.get("Origin", "")
    return header if header and origin_of(header) == header else None


def current_client() -> Client | None:
    """Find the browser: by its dev-browser token (development), else by its `__client` cookie."""
    registry = instance().registry
    token = request.args.get("__clerk_db_jwt") or request.headers.get("Clerk-Db-Jwt")
    return registry.find_client(token) or registry.find_client(request.cookies.get("__client"))


def refuse(status: int, code: str, message: str) -> Response:
    """Give an error in the service's own form."""
    body = {
        "errors": [{"message": message, "long_message": message, "code": code, "meta": {}}],
        "clerk_trace_id": secrets.token_hex(16),
    }
    response = jsonify(body)
    response.status_code = status
    return response
