"""The Frontend API: what a browser and ClerkJS ask of the instance's own host.

In:    requests with a `__client` cookie or a dev-browser token.
Out:   the client, session tokens, and the handshake that gives a server its cookies.
Laws:  1. `azp` of a token is the request's Origin; of a handshake's token, the origin it goes back to. 2. Redirects go
       to loopback only. 3. An ended session, or an organisation the person is not in, gives no token.
Not here: pages for people (pages), OAuth (oauth_api), the server's API (backend_api).
"""

from __future__ import annotations

import secrets
import time
from email.utils import formatdate
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from flask import Blueprint, Response, jsonify, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from devstack.clerk import people, tokens, views
from devstack.clerk.instance import asking_origin, current_client, instance, origin_of, refuse
from devstack.clerk.registry import Client, Session

blueprint = Blueprint("frontend_api", __name__)
_YEAR_S = 365 * 86_400


@blueprint.get("/.well-known/jwks.json")
def jwks() -> Response:
    response = jsonify(instance().keys.jwks())
    response.headers["Cache-Control"] = "public, max-age=60"
    return response


@blueprint.get("/v1/environment")
def environment() -> Response:
    return jsonify(
        auth_config={"object": "auth_config", "single_session_mode": True, "claimed_at": None},
        display_config={
            "object": "display_config",
            "application_name": "VantageEdge demo",
            "instance_environment_type": "development",
            "sign_in_url": f"{instance().issuer}/sign-in",
            "home_url": instance().console_url,
        },
        organization_settings={"enabled": True, "force_organization_selection": False, "max_allowed_memberships": 5},
        user_settings={"attributes": {}, "social": {}},
        maintenance_mode=False,
        demo_people=[
            {
                "name": person.name,
                "full_name": f"{person.first_name} {person.last_name}",
                "email": person.email,
                "role": " and ".join(
                    f"{held.role.removeprefix('org:')} of {people.ORGANISATIONS[held.org_id].name}"
                    for held in people.memberships_of(person.user_id)
                ),
            }
            for person in people.PEOPLE.values()
        ],
    )


@blueprint.post("/v1/dev_browser")
def dev_browser() -> Response:
    client = current_client() or instance().registry.new_client()
    return jsonify(id=client.secret, instance_id=people.INSTANCE_ID, token=client.secret)


@blueprint.get("/v1/client")
def show_client() -> Response:
    return _with_client(None, current_client())


@blueprint.post("/v1/client/sign_ins")
def sign_in() -> Response:
    person = people.PEOPLE.get(request.form.get("identifier", ""))
    if person is None:
        return refuse(422, "form_identifier_not_found", "Couldn't find your account.")
    client = current_client() or instance().registry.new_client()
    session = instance().registry.sign_in(client, person)
    said = {"object": "sign_in", "status": "complete", "created_session_id": session.session_id}
    return _with_client(said, client)


@blueprint.delete("/v1/client/sessions")
def sign_out() -> Response:
    client = current_client()
    for session in instance().registry.active_sessions(client) if client else ():
        instance().registry.end(session, "removed")
    return _with_client(views.client(client, instance().registry), client)


@blueprint.post("/v1/client/sessions/<session_id>/tokens")
@blueprint.post("/v1/client/sessions/<session_id>/tokens/<template>")
def token(session_id: str, template: str | None = None) -> Response:
    session = _own_session(session_id)
    if session is None:
        return refuse(401, "authentication_invalid", "Invalid authentication")
    if template is not None:
        return refuse(404, "resource_not_found", "JWT template not found")
    wanted = request.form.get("organization_id")
    if wanted and people.membership(session.user_id, wanted) is None:
        return refuse(404, "resource_not_found", "Organization not found")
    signed = tokens.session_token(
        instance().keys,
        session,
        instance().issuer,
        asking_origin(),
        instance().clock.now(),
        organisation=wanted if wanted is not None else None,
    )
    return jsonify(object="token", jwt=signed)


@blueprint.post("/v1/client/sessions/<session_id>/touch")
def touch(session_id: str) -> Response:
    session = _own_session(session_id)
    if session is None:
        return refuse(401, "authentication_invalid", "Invalid authentication")
    wanted = request.form.get("active_organization_id")
    if wanted is not None and not _activate(session, wanted):
        return refuse(404, "resource_not_found", "Organization not found")
    return _with_client(views.session(session, full=True), current_client())


@blueprint.post("/v1/client/sessions/<session_id>/<any(end, remove):how>")
def end(session_id: str, how: str) -> Response:
    session = _own_session(session_id)
    if session is None:
        return refuse(404, "resource_not_found", "Session not found")
    instance().registry.end(session, "ended" if how == "end" else "removed")
    return _with_client(views.session(session), current_client())


@blueprint.get("/v1/client/handshake")
def handshake() -> AnyResponse:
    """Send a browser back with the cookies its server lacks, as a signed list of Set-Cookie directives or its nonce."""
    target = request.args.get("redirect_url", "")
    origin = origin_of(target)
    if origin is None:
        return refuse(400, "invalid_url_scheme", "redirect_url must be an http(s) URL of a loopback host")
    client = current_client()
    fresh = client or instance().registry.new_client()
    active = instance().registry.active_sessions(fresh)
    session = active[-1] if active else None
    wanted = request.args.get("organization_id")
    if session is not None and wanted is not None:
        _activate(session, wanted)
    directives = _directives(fresh, session, origin)
    if request.args.get("format") == "nonce":
        nonce = secrets.token_urlsafe(24)
        instance().registry.nonces[nonce] = directives
        response = redirect(with_query(target, {"__clerk_handshake_nonce": nonce}), 307)
    else:
        signed = instance().keys.sign({"handshake": directives}, {"typ": "JWT"})
        response = redirect(with_query(target, {"__clerk_handshake": signed}), 307)
    remember(response, fresh)
    response.headers["Cache-Control"] = "no-store"
    return response


def _directives(client: Client, session: Session | None, origin: str) -> list[str]:
    here = instance()
    now = here.clock.now()
    signed = tokens.session_token(here.keys, session, here.issuer, origin, now) if session else ""
    seen = str(client.updated_at) if session else "0"
    suffixes = ["", "_" + here.cookie_suffix]
    secure = "; Secure" if origin.startswith("https:") else ""
    kept = f"Path=/; Expires={formatdate(time.time() + _YEAR_S, usegmt=True)}; SameSite=Lax{secure}"
    gone = f"Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; SameSite=Lax{secure}"
    directives = []
    for suffix in suffixes:
        directives.append(f"__clerk_db_jwt{suffix}={client.secret}; {kept}")
        directives.append(f"__client_uat{suffix}={seen}; {kept}")
        directives.append(f"__session{suffix}={signed}; {kept if signed else gone}")
    return directives


def _activate(session: Session, organisation: str) -> bool:
    if not organisation:
        session.org_id = None
        return True
    held = people.membership(session.user_id, organisation)
    if held is None:
        return False
    session.org_id = held.org_id
    return True


def _own_session(session_id: str) -> Session | None:
    client, session = current_client(), instance().registry.sessions.get(session_id)
    if client is None or session is None or session.client_id != client.client_id or session.status != "active":
        return None
    return session


def _with_client(answer: object, client: Client | None) -> Response:
    shown = views.client(client, instance().registry)
    response = jsonify(response=answer if answer is not None else shown, client=shown)
    if client is not None:
        remember(response, client)
    return response


def remember(response: AnyResponse, client: Client) -> None:
    """Give the browser its client cookie on the instance's own host."""
    response.set_cookie("__client", client.secret, max_age=_YEAR_S, httponly=True, samesite="Lax", path="/")


def with_query(url: str, added: dict[str, str]) -> str:
    """Add query members to a URL, replacing those of the same name."""
    parts = urlsplit(url)
    kept = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name not in added]
    return urlunsplit(parts._replace(query=urlencode([*kept, *added.items()])))
