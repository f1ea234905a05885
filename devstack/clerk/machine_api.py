"""The Backend API for machines and their tokens.

In:    the instance's secret key, or a machine's own (`ak_...`).
Out:   machines, tokens, and whether a token is good.
Laws:  1. Machines are the instance's to manage; a token is made with its machine's own key only. 2. A token that is not
       there and one that is not yours get the same 404. 3. A revoked or expired token is shown as such, with 200: the
       one who asks decides.
Not here: the store (machines).
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, request

from devstack.clerk import tokens, views
from devstack.clerk.backend_api import bearer, is_duration, is_secret_key, listed, missing
from devstack.clerk.instance import instance, refuse
from devstack.clerk.machines import DEFAULT_LIFE_S, Machine, MachineToken, may_see
from devstack.clerk.registry import new_id

blueprint = Blueprint("machine_api", __name__, url_prefix="/v1")
Json = dict[str, Any]
_CLAIM_NAMES_OF_OURS = frozenset({"aud", "exp", "iat", "iss", "jti", "nbf", "scopes", "sub"})


@blueprint.before_request
def require_a_key() -> Response | None:
    about_tokens = request.path.startswith("/v1/m2m_tokens")
    if is_secret_key() or (about_tokens and _asking() is not None):
        return None
    return refuse(401, "authentication_invalid", "Invalid authentication")


def _asking() -> Machine | None:
    """Give the machine that asks; None when the instance itself does."""
    return instance().machines.by_secret(bearer())


@blueprint.get("/machines")
def machines() -> Response:
    return listed([views.machine(each, instance().machines) for each in instance().machines.by_id.values()])


@blueprint.post("/machines")
def create_machine() -> Response:
    said = _body()
    name, wanted, life_s = said.get("name"), said.get("scoped_machines", []), said.get("default_token_ttl")
    life_s = DEFAULT_LIFE_S if life_s is None else life_s
    if not isinstance(name, str) or not name:
        return refuse(422, "form_param_nil", "name must be a text")
    if not isinstance(wanted, list) or any(each not in instance().machines.by_id for each in wanted):
        return refuse(422, "form_param_value_invalid", "scoped_machines must be ids of machines")
    if type(life_s) is not int or life_s < 1:
        return refuse(422, "form_param_value_invalid", "default_token_ttl must be at least 1")
    made = instance().machines.add(name, wanted, life_s)
    return jsonify(views.machine(made, instance().machines) | {"secret_key": made.secret})


@blueprint.get("/machines/<machine_id>")
def machine(machine_id: str) -> Response:
    found = instance().machines.by_id.get(machine_id)
    return jsonify(views.machine(found, instance().machines)) if found else missing()


@blueprint.delete("/machines/<machine_id>")
def delete_machine(machine_id: str) -> Response:
    found = instance().machines.by_id.get(machine_id)
    if found is None:
        return missing()
    instance().machines.remove(found)
    return jsonify(object="machine", id=machine_id, deleted=True)


@blueprint.get("/machines/<machine_id>/secret_key")
def machine_secret(machine_id: str) -> Response:
    found = instance().machines.by_id.get(machine_id)
    return jsonify(object="machine_secret_key", secret=found.secret) if found else missing()


@blueprint.post("/machines/<machine_id>/scopes")
def add_scope(machine_id: str) -> Response:
    found, other = instance().machines.by_id.get(machine_id), str(_body().get("to_machine_id"))
    if found is None or other not in instance().machines.by_id:
        return missing()
    if other not in found.speaks_to:
        found.speaks_to.append(other)
    at_ms = int(instance().clock.now() * 1_000)
    return jsonify(object="machine_scope", from_machine_id=machine_id, to_machine_id=other, created_at=at_ms)


@blueprint.post("/m2m_tokens")
def create_token() -> Response:
    """Make a token: {token_format?, seconds_until_expiration?, claims?, scopes?, min_remaining_ttl_seconds?}."""
    here, said, maker = instance(), _body(), _asking()
    if maker is None:
        return refuse(401, "authentication_invalid", "a token is made with its machine's own secret key")
    life_s = said.get("seconds_until_expiration", maker.life_s)
    audience, extra = said.get("scopes", maker.speaks_to), said.get("claims")
    wrong = _wrong(said, life_s, audience, maker)
    if wrong:
        return refuse(400, "form_param_value_invalid", wrong)
    if said.get("token_format", "opaque") == "jwt":
        return _created(_jwt(maker, audience, extra, maker.life_s if life_s is None else life_s))
    remaining_s = said.get("min_remaining_ttl_seconds")
    kept = None if remaining_s is None else here.machines.reusable(maker, audience, extra, remaining_s)
    token = kept or here.machines.issue(maker, audience, extra, life_s)
    return _created(views.machine_token(token, here.machines) | {"token": token.text})


def _wrong(said: Json, life_s: object, audience: object, maker: Machine) -> str:
    if said.get("token_format", "opaque") not in ("opaque", "jwt"):
        return "token_format must be opaque or jwt"
    if life_s is not None and not is_duration(life_s):
        return "seconds_until_expiration must be a number above 0"
    if not isinstance(audience, list) or any(each not in maker.speaks_to for each in audience):
        return "scopes must be machines that this machine may speak to"
    extra = said.get("claims")
    if extra is not None and (not isinstance(extra, dict) or _CLAIM_NAMES_OF_OURS & set(extra)):
        return "claims must be an object without the registered claims"
    remaining_s = said.get("min_remaining_ttl_seconds")
    if remaining_s is not None and not is_duration(remaining_s):
        return "min_remaining_ttl_seconds must be a number above 0"
    if remaining_s is not None and isinstance(life_s, int | float) and remaining_s >= life_s:
        return "min_remaining_ttl_seconds must be less than the token's life"
    return ""


def _jwt(maker: Machine, audience: list[str], extra: Json | None, life_s: float) -> Json:
    here, token_id = instance(), new_id("mt_")
    now = here.clock.now()
    said = tokens.machine_claims(token_id, here.issuer, maker.machine_id, audience, now, life_s, extra or {})
    shown = MachineToken(token_id, b"", maker.machine_id, tuple(audience), extra, now, now + life_s)
    return views.machine_token(shown, here.machines) | {"token": here.keys.sign(said, tokens.machine_header())}


def _created(token: Json) -> Response:
    response = jsonify(token)
    response.status_code = 201
    return response


@blueprint.get("/m2m_tokens")
def list_tokens() -> Response:
    subject, asking = request.args.get("subject", ""), _asking()
    if asking is not None and asking.machine_id != subject:
        return missing()
    made = instance().machines.made_by(subject)
    return jsonify(m2m_tokens=[views.machine_token(each, instance().machines) for each in made], total_count=len(made))


@blueprint.post("/m2m_tokens/verify")
def verify_token() -> Response:
    """Say what a token is: {token}. The SDK's authenticate_request sends {secret} instead, and is understood."""
    here, said = instance(), _body()
    text = said.get("token", said.get("secret"))
    if not isinstance(text, str):
        return refuse(400, "form_param_nil", "token must be a text")
    found, asking = here.machines.find(text), _asking()
    if found is None or (asking is not None and not may_see(asking, found)):
        return missing()
    if not found.revoked and not here.machines.is_expired(found):
        found.used_at = here.clock.now()
    return jsonify(views.machine_token(found, here.machines))


@blueprint.post("/m2m_tokens/<token_id>/revoke")
def revoke_token(token_id: str) -> Response:
    found, asking = instance().machines.by_token_id(token_id), _asking()
    if found is None or (asking is not None and asking.machine_id != found.machine_id):
        return missing()
    reason = _body().get("revocation_reason")
    found.revoked, found.reason = True, reason if isinstance(reason, str) else None
    return jsonify(views.machine_token(found, instance().machines))


def _body() -> Json:
    said = request.get_json(silent=True)
    return said if isinstance(said, dict) else {}
