"""What all endpoints of the stand-in share: its keys, clock and memory, its address, and the rules for origins.

In:    a folder, a host and port, the setting of the console's URL.
Out:   Instance; the answers' error form.
Laws:  1. Only loopback names may be redirected to or answered across origins. 2. Nothing here is for production.
Not here: the endpoints (frontend_api, oauth_api, backend_api, machine_api, pages, controls).
"""

from __future__ import annotations

import secrets
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from flask import Response, current_app, jsonify, request

from devstack.clerk import people
from devstack.clerk.api_keys import ApiKeys
from devstack.clerk.applications import Applications
from devstack.clerk.clock import Clock
from devstack.clerk.keys import SigningKeys
from devstack.clerk.machines import Machines
from devstack.clerk.registry import Client, Registry


@dataclass(slots=True)
class Outage:
    """`path`: only what begins with it is out of order."""

    mode: str = "off"
    path: str = "/"


@dataclass(slots=True)
class Throttle:
    """The next `answers` answers of the Backend API are 429."""

    answers: int = 0
    retry_after_s: int = 1


@dataclass(slots=True)
class Instance:
    """`counts`: how many requests each endpoint had, by its rule; what exists nowhere counts as one."""

    folder: Path
    host: str
    console_url: str
    keys: SigningKeys
    clock: Clock = field(default_factory=Clock)
    registry: Registry = field(init=False)
    machines: Machines = field(init=False)
    applications: Applications = field(init=False)
    api_keys: ApiKeys = field(init=False)
    outage: Outage = field(default_factory=Outage)
    throttle: Throttle = field(default_factory=Throttle)
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.registry = Registry(self.clock)
        self.machines = Machines(self.clock)
        self.applications = Applications(self.clock)
        self.api_keys = ApiKeys(self.clock)

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
