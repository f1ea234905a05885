"""The Backend API for the service's own API keys: make, verify, revoke.

In:    the instance's secret key.
Out:   keys; a secret once.
Laws:  1. A key that is not there is 404; one that is revoked or expired is shown as such.
Not here: the store (api_keys).
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, request

from devstack.clerk import people
from devstack.clerk.api_keys import ApiKey
from devstack.clerk.backend_api import is_duration, missing, require_secret_key
from devstack.clerk.instance import instance, refuse

blueprint = Blueprint("api_key_api", __name__, url_prefix="/v1/api_keys")
blueprint.before_request(require_secret_key)


@blueprint.post("")
def create() -> Response:
    """Make a key: {name, subject, scopes?, claims?, seconds_until_expiration?}."""
    said = _body()
    name, subject, scopes, claims = said.get("name"), said.get("subject"), said.get("scopes", []), said.get("claims")
    known = subject in people.ORGANISATIONS or people.person_by_id(str(subject)) is not None
    life_s = said.get("seconds_until_expiration")
    if not isinstance(name, str) or not known or not isinstance(scopes, list):
        return refuse(422, "form_param_value_invalid", "name a key, and an organisation or a user that exists")
    if life_s is not None and not is_duration(life_s):
        return refuse(422, "form_param_value_invalid", "seconds_until_expiration must be a number above 0")
    key, secret = instance().api_keys.add(
        str(subject),
        name,
        tuple(map(str, scopes)),
        claims if isinstance(claims, dict) else None,
        life_s,
    )
    response = jsonify(_shown(key) | {"secret": secret})
    response.status_code = 201
    return response


@blueprint.post("/verify")
def verify() -> Response:
    secret = _body().get("secret")
    if not isinstance(secret, str):
        return refuse(400, "form_param_nil", "secret must be a text")
    key = instance().api_keys.find(secret)
    if key is None:
        return missing()
    key.used_at = instance().clock.now()
    return jsonify(_shown(key))


@blueprint.post("/<key_id>/revoke")
def revoke(key_id: str) -> Response:
    key = instance().api_keys.by_key_id(key_id)
    if key is None:
        return missing()
    key.revoked, key.reason = True, _body().get("revocation_reason")
    return jsonify(_shown(key))


def _shown(key: ApiKey) -> dict[str, Any]:
    return {
        "object": "api_key",
        "id": key.key_id,
        "type": "api_key",
        "subject": key.subject,
        "name": key.name,
        "description": None,
        "claims": key.claims,
        "scopes": list(key.scopes),
        "revoked": key.revoked,
        "revocation_reason": key.reason,
        "expired": instance().api_keys.is_expired(key),
        "expiration": None if key.expires_at is None else int(key.expires_at * 1_000),
        "created_by": None,
        "last_used_at": None if key.used_at is None else int(key.used_at * 1_000),
        "created_at": int(key.created_at * 1_000),
        "updated_at": int(key.created_at * 1_000),
    }


def _body() -> dict[str, Any]:
    said = request.get_json(silent=True)
    return said if isinstance(said, dict) else {}
