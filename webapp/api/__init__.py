"""The JSON API, version 1: one blueprint per noun over the services, problem+json for everything that goes wrong."""

from __future__ import annotations

from typing import Any, Final

from flask_openapi3.openapi import OpenAPI

from webapp.api import (
    api_keys,
    cache,
    config,
    identity_keys,
    issuers,
    origins,
    problems,
    propagation,
    routes,
    services,
    tenants,
)
from webapp.api.blueprint import PREFIX

DESCRIPTION: Final = (
    "Tenants, origins, routes, issuers, services, identity keys and API keys of an API gateway. Send a Clerk session"
    " token as a bearer token; the tenant is that of its active organisation. Errors are application/problem+json"
    " (RFC 9457). Every write answers the configuration's version in X-Vantage-Config-Version; with Prefer: wait=N"
    " (RFC 7240) it waits up to N seconds until every live edge has it in force. ETag names the version of a thing; a"
    " write with If-Match (RFC 9110) that names another one is 412."
)
SECURITY_SCHEMES: Final[dict[str, Any]] = {
    "clerk": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "A Clerk session token."}
}


def register(app: OpenAPI) -> None:
    problems.register(app)
    app.register_api(tenants.blueprint)
    app.register_api(origins.blueprint)
    app.register_api(routes.blueprint)
    app.register_api(issuers.blueprint)
    app.register_api(identity_keys.blueprint)
    app.register_api(api_keys.blueprint)
    app.register_api(services.blueprint)
    app.register_api(cache.blueprint)
    app.register_api(config.blueprint)
    app.register_api(propagation.blueprint)
    app.add_url_rule(f"{PREFIX}/openapi.json", "openapi", lambda: app.api_doc)
