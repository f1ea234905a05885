"""Controls that the real service does not have: bad tokens on demand, key rotation, outage. For tests and curl.

In:    POST /__dev/... from loopback.
Out:   tokens, the instance's settings.
Laws:  1. A browser of another origin gets nothing: any request that carries Origin or Sec-Fetch-Site is refused.
Not here: the flaws themselves (tokens.FLAWS).
"""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request

from devstack.clerk import people, tokens
from devstack.clerk.instance import instance, refuse

blueprint = Blueprint("controls", __name__, url_prefix="/__dev")
OUTAGES = ("off", "error", "timeout", "garbage")


@blueprint.before_request
def require_a_program() -> Response | None:
    if "Origin" in request.headers or "Sec-Fetch-Site" in request.headers:
        return refuse(403, "not_allowed", "these controls are not for browsers")
    return None


@blueprint.get("/settings")
def settings() -> Response:
    """Everything the product is told about its instance."""
    here = instance()
    return jsonify(
        CLERK_PUBLISHABLE_KEY=here.publishable_key,
        CLERK_SECRET_KEY=people.SECRET_KEY,
        CLERK_WEBHOOK_SECRET=people.WEBHOOK_SECRET,
        CLERK_FRONTEND_API_URL=here.issuer,
        CLERK_ISSUER=here.issuer,
        CLERK_JWKS_URL=f"{here.issuer}/.well-known/jwks.json",
        CLERK_API_URL=here.issuer,
        CLERK_JWT_KEY=here.keys.public_pem(),
    )


@blueprint.post("/tokens")
def mint() -> Response:
    """Mint a token: {person, version?, organization?, azp?, flaw?, claims?}. No organization member: the first one."""
    wanted = request.get_json(silent=True)
    if not isinstance(wanted, dict):
        return refuse(422, "form_param_format_invalid", "send a JSON object")
    unknown = set(wanted) - {"person", "version", "organization", "azp", "flaw", "claims"}
    person, flaw = people.PEOPLE.get(str(wanted.get("person"))), wanted.get("flaw")
    if unknown or person is None or (flaw is not None and flaw not in tokens.FLAWS):
        choices = f"person: {', '.join(people.PEOPLE)}; flaw: {', '.join(tokens.FLAWS)}"
        return refuse(422, "form_param_value_invalid", f"unknown member or value; {choices}")
    here = instance()
    session = here.registry.session_of(person)
    said = tokens.claims(
        session,
        here.issuer,
        wanted.get("azp", here.console_url),
        version=wanted.get("version", 2),
        organisation=wanted.get("organization"),
    )
    said |= wanted.get("claims") or {}
    signed = tokens.FLAWS[flaw](here.keys, said) if flaw else here.keys.sign(said, tokens.header())
    return jsonify(jwt=signed, session_id=session.session_id)


@blueprint.post("/keys/rotate")
def rotate() -> Response:
    """Rotate the signing key: ?kid=same (the old one is gone) or ?kid=new (both are listed)."""
    how = request.args.get("kid", "same")
    if how not in ("same", "new"):
        return refuse(422, "form_param_value_invalid", "kid must be same or new")
    instance().keys.rotate(same_key_id=how == "same")
    return jsonify(kid=instance().keys.key_id)


@blueprint.post("/outage")
def outage() -> Response:
    """Be away: ?mode=error (503), timeout (an answer after 30 s), garbage (200 with nonsense), off."""
    mode = request.args.get("mode", "")
    if mode not in OUTAGES:
        return refuse(422, "form_param_value_invalid", f"mode must be one of {', '.join(OUTAGES)}")
    instance().outage = mode
    return jsonify(mode=mode)
