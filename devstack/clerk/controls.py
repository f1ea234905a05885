"""Controls that the real service does not have: tokens good and bad, keys, clock, outage, 429. For tests and curl.

In:    GET and POST /__dev/... from loopback.
Out:   tokens, the instance's settings, its clients' credentials, its counts.
Laws:  1. A browser of another origin gets nothing: any request that carries Origin or Sec-Fetch-Site is refused. 2. A
       wrong question is 422 with the choices.
Not here: the flaws themselves (flaws), what an outage answers (outages).
"""

from __future__ import annotations

import math
from typing import Any

from flask import Blueprint, Response, jsonify, request

from devstack.clerk import flaws, machines, oauth_api, outages, people, tokens
from devstack.clerk.instance import instance, refuse
from devstack.clerk.registry import new_id

blueprint = Blueprint("controls", __name__, url_prefix="/__dev")
Json = dict[str, Any]
_MEMBERS = {
    "session": {"person", "version", "organization", "azp"},
    "oauth": {"person", "organization", "client_id", "scope", "audience"},
    "machine": {"machine", "audience"},
}
_FOR_ALL = {"kind", "flaw", "claims"}


class Refused(Exception):
    """The request names something that is not there."""


@blueprint.errorhandler(Refused)
def tell(refused: Refused) -> Response:
    return refuse(422, "form_param_value_invalid", str(refused))


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
        CLERK_MACHINE_ID=machines.GATEWAY_ID,
        CLERK_MACHINE_SECRET_KEY=machines.GATEWAY_SECRET,
    )


@blueprint.get("/clients")
def clients() -> Response:
    """The credentials of everybody who may ask: machines and OAuth applications."""
    here = instance()
    return jsonify(
        machines=[
            {"id": each.machine_id, "name": each.name, "secret_key": each.secret, "speaks_to": each.speaks_to}
            for each in here.machines.by_id.values()
        ],
        oauth_applications=[
            {
                "client_id": each.client_id,
                "client_secret": each.secret,
                "name": each.name,
                "redirect_uris": each.redirect_uris,
                "access_token_format": "opaque" if each.is_opaque else "jwt",
            }
            for each in here.applications.by_client.values()
        ],
    )


@blueprint.post("/tokens")
def mint() -> Response:
    """Mint a token: {kind?: session (default), oauth, machine; flaw?; claims?: members to put over the good ones}.

    session: {person, version?, organization?, azp?}; oauth: {person, organization?, client_id?, scope?, audience?};
    machine: {machine?, audience?}. No organization member: the person's first one.
    """
    wanted = request.get_json(silent=True)
    if not isinstance(wanted, dict):
        raise Refused("send a JSON object")
    kind = wanted.get("kind", "session")
    if kind not in _MEMBERS:
        raise Refused(f"kind must be one of {', '.join(_MEMBERS)}")
    unknown = set(wanted) - _MEMBERS[kind] - _FOR_ALL
    if unknown:
        raise Refused(f"unknown: {', '.join(sorted(unknown))}; members: {', '.join(sorted(_MEMBERS[kind] | _FOR_ALL))}")
    flaw = wanted.get("flaw")
    choices = [name for name, each in flaws.FLAWS.items() if kind in each.kinds]
    if flaw is not None and flaw not in choices:
        raise Refused(f"flaw must be one of {', '.join(choices)}")
    head, said, more = {"session": _session, "oauth": _access, "machine": _machine}[kind](wanted)
    extra = wanted.get("claims")
    if extra is not None and not isinstance(extra, dict):
        raise Refused("claims is an object")
    if "token" in more:  # opaque: there is nothing in it to be wrong
        return jsonify(more)
    said |= extra or {}
    keys = instance().keys
    signed = flaws.FLAWS[flaw].make(keys, head, said) if flaw else keys.sign(said, head)
    return jsonify(more | {"jwt": signed})


def _person(wanted: Json) -> people.Person:
    person = people.PEOPLE.get(str(wanted.get("person")))
    if person is None:
        raise Refused(f"person must be one of {', '.join(people.PEOPLE)}")
    return person


def _session(wanted: Json) -> tuple[Json, Json, Json]:
    here = instance()
    session = here.registry.session_of(_person(wanted))
    said = tokens.claims(
        session,
        here.issuer,
        wanted.get("azp", here.console_url),
        here.clock.now(),
        version=wanted.get("version", 2),
        organisation=wanted.get("organization"),
    )
    return tokens.header(), said, {"session_id": session.session_id}


def _access(wanted: Json) -> tuple[Json, Json, Json]:
    """A flawed token, or one with other claims, is not remembered: token_info and verify do not know it."""
    here, person = instance(), _person(wanted)
    client_id = wanted.get("client_id", next(iter(here.applications.by_client)))
    application = here.applications.by_client.get(str(client_id))
    if application is None:
        raise Refused(f"client_id must be one of {', '.join(here.applications.by_client)}")
    scopes = tuple(str(wanted.get("scope", "profile email")).split())
    held = people.memberships_of(person.user_id)
    org_id = wanted.get("organization", held[0].org_id if held else None)
    audience = wanted.get("audience", application.audience)
    if application.is_opaque and (wanted.get("flaw") or wanted.get("claims") or "audience" in wanted):
        raise Refused("an opaque token has no claims and no flaws")
    if application.is_opaque or not (wanted.get("flaw") or wanted.get("claims") or "audience" in wanted):
        text, made = oauth_api.issue(application, person.user_id, org_id, scopes)
        return {}, {}, {"token": text, "token_id": made.token_id} | ({} if application.is_opaque else {"jwt": text})
    said = tokens.access_claims(
        new_id("oat_"), here.issuer, person.user_id, application.client_id, scopes, here.clock.now(),
        org_id=org_id, audience=audience,
    )  # fmt: skip
    return tokens.access_header(), said, {}


def _machine(wanted: Json) -> tuple[Json, Json, Json]:
    here = instance()
    machine = here.machines.by_id.get(str(wanted.get("machine", machines.CALLER_ID)))
    if machine is None:
        raise Refused(f"machine must be one of {', '.join(here.machines.by_id)}")
    audience = wanted.get("audience", machine.speaks_to)
    said = tokens.machine_claims(
        new_id("mt_"), here.issuer, machine.machine_id, audience, here.clock.now(), machine.life_s, {}
    )
    return tokens.machine_header(), said, {}


@blueprint.get("/flaws")
def list_flaws() -> Response:
    """What a token can be minted to lack, for each kind."""
    return jsonify({kind: [name for name, each in flaws.FLAWS.items() if kind in each.kinds] for kind in flaws.KINDS})


@blueprint.post("/keys/rotate")
def rotate() -> Response:
    """Rotate the signing key: ?kid=same (the old one is gone) or ?kid=new (both are listed)."""
    how = request.args.get("kid", "same")
    if how not in ("same", "new"):
        raise Refused("kid must be same or new")
    instance().keys.rotate(same_key_id=how == "same")
    return jsonify(kid=instance().keys.key_id)


@blueprint.post("/keys/retire")
def retire() -> Response:
    """List the current key alone, as one does some time after a rotation."""
    instance().keys.retire()
    return jsonify(kid=instance().keys.key_id)


@blueprint.post("/outage")
def outage() -> Response:
    """Be away: ?mode=error (503), timeout (an answer after 30 s), garbage (200 with nonsense), redirect (to what one
    should not believe), huge (4 MB), drip (a byte each 0.2 s), reset (ends in the middle), off; &path=/v1/... for a
    part alone.
    """
    mode = request.args.get("mode", "")
    if mode not in outages.MODES:
        raise Refused(f"mode must be one of {', '.join(outages.MODES)}")
    instance().outage.mode, instance().outage.path = mode, request.args.get("path", "/")
    return jsonify(mode=mode, path=instance().outage.path)


@blueprint.route("/elsewhere", methods=["GET", "POST"])
def elsewhere() -> Response:
    """Where the redirect of an outage leads."""
    return jsonify(outages.believable())


@blueprint.post("/clock")
def clock() -> Response:
    """Set the instance's clock wrong: ?skew=SECONDS, ?freeze=SECONDS (wall), both, or neither for right again."""
    try:
        skew_s = float(request.args.get("skew", "0"))
        frozen_at = float(request.args["freeze"]) if "freeze" in request.args else None
    except ValueError:
        skew_s, frozen_at = math.nan, None
    if not math.isfinite(skew_s) or not math.isfinite(frozen_at or 0.0):
        raise Refused("skew and freeze are seconds")
    instance().clock.set(skew_s=skew_s, frozen_at=frozen_at)
    return jsonify(now=instance().clock.now())


@blueprint.post("/throttle")
def throttle() -> Response:
    """Answer 429 to the next ?answers=N requests to the Backend API, with ?retry_after=SECONDS."""
    answers, retry_after_s = request.args.get("answers", 1, int), request.args.get("retry_after", 1, int)
    if answers < 0 or retry_after_s < 0:
        raise Refused("answers and retry_after are whole numbers")
    instance().throttle.answers, instance().throttle.retry_after_s = answers, retry_after_s
    return jsonify(answers=answers, retry_after=retry_after_s)


@blueprint.get("/requests")
def requests_seen() -> Response:
    """How many requests each endpoint has had since the start."""
    return jsonify(dict(instance().counts))
