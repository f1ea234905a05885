"""The Backend API for OAuth applications and their access tokens.

In:    the instance's secret key.
Out:   applications; whether an access token is good.
Laws:  1. Redirect addresses are of loopback. 2. An access token that is not there is 404; of a JWT that has expired
       it is only said that it is not active; others are shown as they are.
Not here: the store (applications), the provider (oauth_api).
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, request

from devstack.clerk import views
from devstack.clerk.applications import SCOPES, Application
from devstack.clerk.backend_api import listed, missing, require_secret_key
from devstack.clerk.instance import instance, origin_of, refuse
from devstack.clerk.registry import new_id

blueprint = Blueprint("application_api", __name__, url_prefix="/v1/oauth_applications")
blueprint.before_request(require_secret_key)


@blueprint.get("")
def applications() -> Response:
    return listed([views.application(each, instance().issuer) for each in instance().applications.by_client.values()])


@blueprint.get("/<application_id>")
def application(application_id: str) -> Response:
    found = _by_id(application_id)
    return jsonify(views.application(found, instance().issuer)) if found else missing()


@blueprint.post("")
def create() -> Response:
    """Make one: {name, redirect_uris, scopes?, public?, consent_screen_enabled?}, and of our own
    {access_token_format?: jwt|opaque, audience?}, which are settings of the whole instance in the service.
    """
    said = _body()
    name, uris, scopes = said.get("name"), said.get("redirect_uris"), str(said.get("scopes", "profile email")).split()
    if not isinstance(name, str) or not name:
        return refuse(422, "form_param_nil", "name must be a text")
    if not isinstance(uris, list) or not uris or not all(_is_redirect(each) for each in uris):
        return refuse(422, "form_param_value_invalid", "redirect_uris must be loopback http(s) URLs without fragment")
    if not set(scopes) <= set(SCOPES) or said.get("access_token_format", "jwt") not in ("jwt", "opaque"):
        return refuse(422, "form_param_value_invalid", f"scopes are of {', '.join(SCOPES)}; formats jwt, opaque")
    audience = said.get("audience", [])
    made = Application(
        new_id("oauthapp_"),
        new_id("")[:16],
        name,
        tuple(uris),
        secret="" if said.get("public") else new_id(""),
        scopes=tuple(scopes),
        asks=said.get("consent_screen_enabled", True) is not False,
        is_opaque=said.get("access_token_format") == "opaque",
        audience=tuple(map(str, audience)) if isinstance(audience, list) else (str(audience),),
        created_at_ms=int(instance().clock.now() * 1_000),
    )
    instance().applications.add(made)
    return jsonify(views.application(made, instance().issuer) | {"client_secret": made.secret})


@blueprint.post("/access_tokens/verify")
def verify() -> Response:
    """Say what a token is: {access_token}, or {secret} as it was called once."""
    said = _body()
    text = said.get("access_token", said.get("secret"))
    if not isinstance(text, str):
        return refuse(400, "form_param_nil", "access_token must be a text")
    known = instance().applications
    found = known.find_access(text)
    if found is None:
        return missing()
    if found.is_jwt and known.is_expired(found):
        return jsonify(active=False)
    return jsonify(views.access_token(found, known))


@blueprint.post("/<application_id>/revoke_token")
def revoke(application_id: str) -> Response:
    found, text = _by_id(application_id), _body().get("token")
    if found is None or not isinstance(text, str):
        return missing()
    instance().applications.revoke(text, found.client_id)
    return jsonify({})


def _is_redirect(uri: object) -> bool:
    return isinstance(uri, str) and origin_of(uri) is not None and "#" not in uri


def _by_id(application_id: str) -> Application | None:
    found = instance().applications.by_client.values()
    return next((each for each in found if each.application_id == application_id), None)


def _body() -> dict[str, Any]:
    said = request.get_json(silent=True)
    return said if isinstance(said, dict) else {}
