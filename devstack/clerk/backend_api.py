"""The Backend API subset: what the product's server asks with its secret key.

In:    `Authorization: Bearer sk_test_...`.
Out:   users, organisations, memberships, sessions, the keys, a handshake's payload.
Laws:  1. Without the secret key nothing is shown (401). 2. Lists are {data, total_count}, bounded by limit and offset.
       3. What is asked too often is 429 with Retry-After, the keys excepted: nobody is kept from those.
Not here: the browser's API (frontend_api); machines, OAuth applications and API keys (machine_api, application_api,
       api_key_api), which use the rules of this module.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Sequence
from typing import Any

from flask import Blueprint, Response, jsonify, request

from devstack.clerk import people, tokens, views
from devstack.clerk.instance import instance, refuse

blueprint = Blueprint("backend_api", __name__, url_prefix="/v1")
_PARTS = ("backend_api", "machine_api", "application_api", "api_key_api")


def bearer() -> str:
    """Give what the request presents as `Authorization: Bearer ...`, or an empty text."""
    kind, _, presented = request.headers.get("Authorization", "").partition(" ")
    return presented if kind == "Bearer" else ""


def is_secret_key() -> bool:
    return hmac.compare_digest(bearer().encode(), people.SECRET_KEY.encode())


@blueprint.before_request
def require_secret_key() -> Response | None:
    return None if is_secret_key() else refuse(401, "authentication_invalid", "Invalid authentication")


@blueprint.before_app_request
def throttle() -> Response | None:
    limit = instance().throttle
    if request.blueprint not in _PARTS or request.path == "/v1/jwks" or limit.answers < 1:
        return None
    limit.answers -= 1
    refused = refuse(429, "too_many_requests", "Too many requests, retry later")
    refused.headers["Retry-After"] = str(limit.retry_after_s)
    return refused


@blueprint.get("/jwks")
def jwks() -> Response:
    return jsonify(instance().keys.jwks())


@blueprint.get("/users")
def users() -> Response:
    wanted = request.args.getlist("user_id")
    found = [views.user(p) for p in people.PEOPLE.values() if not wanted or p.user_id in wanted]
    return jsonify(_page(found))


@blueprint.get("/users/<user_id>")
def user(user_id: str) -> Response:
    person = people.person_by_id(user_id)
    return jsonify(views.user(person)) if person else missing()


@blueprint.get("/users/<user_id>/organization_memberships")
def user_memberships(user_id: str) -> Response:
    if people.person_by_id(user_id) is None:
        return missing()
    return listed([views.membership(held) for held in people.memberships_of(user_id)])


@blueprint.get("/organizations")
def organisations() -> Response:
    return listed([views.organisation(org) for org in people.ORGANISATIONS.values()])


@blueprint.get("/organizations/<name>")
def organisation(name: str) -> Response:
    found = _organisation(name)
    return jsonify(views.organisation(found)) if found else missing()


@blueprint.get("/organizations/<name>/memberships")
def memberships(name: str) -> Response:
    found = _organisation(name)
    if found is None:
        return missing()
    return listed([views.membership(held) for held in people.MEMBERSHIPS if held.org_id == found.org_id])


@blueprint.get("/sessions/<session_id>")
def session(session_id: str) -> Response:
    found = instance().registry.sessions.get(session_id)
    return jsonify(views.session(found)) if found else missing()


@blueprint.post("/sessions/<session_id>/revoke")
def revoke(session_id: str) -> Response:
    found = instance().registry.sessions.get(session_id)
    if found is None:
        return missing()
    instance().registry.end(found, "revoked")
    return jsonify(views.session(found))


@blueprint.post("/sessions/<session_id>/tokens")
def token(session_id: str) -> Response:
    found = instance().registry.sessions.get(session_id)
    if found is None or found.status != "active":
        return missing()
    here = instance()
    signed = tokens.session_token(here.keys, found, here.issuer, None, here.clock.now())
    return jsonify(object="token", jwt=signed)


@blueprint.get("/clients/handshake_payload")
def handshake_payload() -> Response:
    directives = instance().registry.nonces.pop(request.args.get("nonce", ""), None)  # believed once
    return jsonify(directives=directives) if directives is not None else missing()


def _organisation(name: str) -> people.Organisation | None:
    return next((org for org in people.ORGANISATIONS.values() if name in (org.org_id, org.slug)), None)


def _page(items: Sequence[Any]) -> Sequence[Any]:
    limit = min(max(request.args.get("limit", 10, int), 1), 500)
    offset = max(request.args.get("offset", 0, int), 0)
    return items[offset : offset + limit]


def listed(items: Sequence[Any]) -> Response:
    """Give one page of a list, as the request bounds it."""
    return jsonify(data=_page(items), total_count=len(items))


def is_duration(value: object) -> bool:
    """Say whether a value of a request is a number of seconds above 0."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def missing() -> Response:
    """Give the answer for what is not there, or is not the asker's."""
    return refuse(404, "resource_not_found", "not found")
