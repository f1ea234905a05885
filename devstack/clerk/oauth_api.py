"""The OAuth provider: authorize, token, userinfo, token_info, revocation, and the metadata that describes them.

In:    browsers with a signed-in person; clients with their credentials (basic, post, or none for public ones).
Out:   codes, access tokens (JWT or opaque, as the application says), refresh tokens, id tokens.
Laws:  1. A redirect address is compared as text, and nothing is sent to one that does not match (RFC 9700 section 2.1).
       2. Every code needs PKCE by S256, public client or not (RFC 7636). 3. A client authenticates by one method, its
       own. 4. No parameter twice (RFC 6749 section 3.1). 5. The metadata says what is, not what could be.
Not here: the store (applications), claims (tokens), the sign-in page (pages).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from typing import Final
from urllib.parse import unquote_plus

from flask import Blueprint, Response, jsonify, redirect, render_template, request
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response as AnyResponse

from devstack.clerk import people, tokens
from devstack.clerk.applications import SCOPES, AccessToken, Application, Asked, Grant
from devstack.clerk.frontend_api import with_query
from devstack.clerk.instance import current_client, instance, refuse
from devstack.clerk.registry import Session, new_id

blueprint = Blueprint("oauth_api", __name__)
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_VERIFIER: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}")
_ASKED: Final = (
    "response_type", "client_id", "redirect_uri", "scope", "state", "code_challenge", "code_challenge_method", "nonce",
)  # fmt: skip


class OAuthError(Exception):
    """`code`: of RFC 6749 sections 4.1.2.1 and 5.2."""

    def __init__(self, code: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.code = code
        self.description = description
        self.status = status


@blueprint.errorhandler(OAuthError)
def tell(error: OAuthError) -> Response:
    response = jsonify(error=error.code, error_description=error.description)
    response.status_code = error.status
    response.headers["Cache-Control"] = "no-store"
    if error.status == 401:
        scheme = 'Bearer error="invalid_token"' if error.code == "invalid_token" else 'Basic realm="oauth"'
        response.headers["WWW-Authenticate"] = scheme
    return response


@blueprint.get("/.well-known/oauth-authorization-server")
@blueprint.get("/.well-known/openid-configuration")
def metadata() -> Response:
    """RFC 8414 section 2."""
    issuer = instance().issuer
    methods = ["client_secret_basic", "client_secret_post"]
    return jsonify(
        issuer=issuer,
        authorization_endpoint=f"{issuer}/oauth/authorize",
        token_endpoint=f"{issuer}/oauth/token",
        userinfo_endpoint=f"{issuer}/oauth/userinfo",
        introspection_endpoint=f"{issuer}/oauth/token_info",
        revocation_endpoint=f"{issuer}/oauth/token/revoke",
        jwks_uri=f"{issuer}/.well-known/jwks.json",
        response_types_supported=["code"],
        response_modes_supported=["query"],
        grant_types_supported=["authorization_code", "refresh_token"],
        subject_types_supported=["public"],
        id_token_signing_alg_values_supported=["RS256"],
        code_challenge_methods_supported=["S256"],
        token_endpoint_auth_methods_supported=[*methods, "none"],
        introspection_endpoint_auth_methods_supported=methods,
        revocation_endpoint_auth_methods_supported=[*methods, "none"],
        authorization_response_iss_parameter_supported=True,
        scopes_supported=list(SCOPES),
        claims_supported=["sub", "email", "email_verified", "name", "given_name", "family_name", "org_id"],
    )


# ---- the browser's part


@blueprint.get("/oauth/authorize")
def authorize() -> AnyResponse | str:
    application = _known(request.args)
    answer = _asked(application, request.args)
    if not isinstance(answer, Asked):
        return answer
    if application.asks:
        person = people.person_by_id(answer.user_id)
        fields = {name: request.args[name] for name in _ASKED if name in request.args}
        dev_browser = request.args.get("__clerk_db_jwt", "")
        return render_template(
            "consent.html", application=application, person=person, scopes=answer.scopes, fields=fields,
            dev_browser=dev_browser,
        )  # fmt: skip
    return _granted(answer, request.args)


@blueprint.post("/oauth/authorize")
def decide() -> AnyResponse:
    """What the consent page sends."""
    if request.headers.get("Origin") not in (None, instance().issuer):
        return refuse(403, "origin_invalid", "this form is sent from its own page only")
    answer = _asked(_known(request.form), request.form)
    if not isinstance(answer, Asked):
        return answer
    if request.form.get("decision") != "allow":
        return _back(request.form, error="access_denied", error_description="the person said no")
    return _granted(answer, request.form)


def _known(said: MultiDict[str, str]) -> Application:
    """Find the application. Raises OAuthError for one that nothing may be sent to."""
    if any(len(said.getlist(name)) > 1 for name in ("client_id", "redirect_uri")):
        raise OAuthError("invalid_request", "client_id and redirect_uri are given once")
    application = instance().applications.by_client.get(said.get("client_id", ""))
    if application is None:
        raise OAuthError("invalid_client", "no such client")
    if said.get("redirect_uri") not in application.redirect_uris:
        raise OAuthError("invalid_request", "redirect_uri is not one of the client's, to the letter")
    return application


def _asked(application: Application, said: MultiDict[str, str]) -> Asked | AnyResponse:
    """Give what is asked of whom; or the answer: an error sent back, or the way to the sign-in page."""
    wrong = _wrong(application, said)
    if wrong is not None:
        return _back(said, error=wrong.code, error_description=wrong.description)
    session = _session()
    if session is None:
        if said.get("prompt") == "none":
            return _back(said, error="login_required", error_description="nobody is signed in")
        here = with_query(f"{instance().issuer}/oauth/authorize", {name: said[name] for name in _ASKED if name in said})
        return redirect(with_query(f"{instance().issuer}/sign-in", {"redirect_url": here}), 303)
    return Asked(
        application.client_id,
        session.user_id,
        session.org_id,
        said["redirect_uri"],
        _scopes(application, said),
        said["code_challenge"],
        said.get("nonce"),
    )


def _wrong(application: Application, said: MultiDict[str, str]) -> OAuthError | None:
    if any(len(said.getlist(name)) > 1 for name in _ASKED):
        return OAuthError("invalid_request", "a parameter is given twice")
    if said.get("response_type") != "code":
        return OAuthError("unsupported_response_type", "response_type must be code")
    if said.get("code_challenge_method") != "S256" or not _CHALLENGE.fullmatch(said.get("code_challenge", "")):
        return OAuthError("invalid_request", "code_challenge by S256 is required")
    scopes = _scopes(application, said)
    if not scopes or not set(scopes) <= set(application.scopes):
        return OAuthError("invalid_scope", "the client may not ask for this")
    return None


def _scopes(application: Application, said: MultiDict[str, str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(said["scope"].split())) if "scope" in said else application.scopes


def _session() -> Session | None:
    client = current_client()
    active = instance().registry.active_sessions(client) if client is not None else []
    return active[-1] if active else None


def _granted(asked: Asked, said: MultiDict[str, str]) -> AnyResponse:
    return _back(said, code=instance().applications.grant(asked))


def _back(said: MultiDict[str, str], **members: str) -> AnyResponse:
    """Send the browser back, with the state it came with and our issuer (RFC 9207)."""
    if len(said.getlist("state")) == 1:
        members["state"] = said["state"]
    response = redirect(with_query(said["redirect_uri"], {**members, "iss": instance().issuer}), 303)
    response.headers["Cache-Control"] = "no-store"
    return response


# ---- the client's part


@blueprint.post("/oauth/token")
def token() -> Response:
    application = _client(public=True)
    kind = request.form.get("grant_type")
    if kind == "authorization_code":
        grant = _redeemed(application)
        return _given(application, grant, grant.asked.scopes)
    if kind == "refresh_token":
        kept = instance().applications.use_refresh(request.form.get("refresh_token", ""), application.client_id)
        if kept is None:
            raise OAuthError("invalid_grant", "the refresh token is not good")
        grant, scopes = kept
        wanted = tuple(request.form.get("scope", " ".join(scopes)).split())
        if not wanted or not set(wanted) <= set(scopes):
            raise OAuthError("invalid_scope", "more than was granted")
        return _given(application, grant, wanted)
    raise OAuthError("unsupported_grant_type", "grant_type must be authorization_code or refresh_token")


def _redeemed(application: Application) -> Grant:
    said = request.form
    if not _VERIFIER.fullmatch(said.get("code_verifier", "")):
        raise OAuthError("invalid_request", "code_verifier is required (RFC 7636 section 4.1)")
    digest = hashlib.sha256(said["code_verifier"].encode()).digest()
    challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def fits(asked: Asked) -> bool:
        same = (asked.client_id, asked.redirect_uri) == (application.client_id, said.get("redirect_uri"))
        return same and hmac.compare_digest(asked.challenge, challenge)

    grant = instance().applications.redeem(said.get("code", ""), fits)
    if grant is None:
        raise OAuthError("invalid_grant", "the code is not good")
    return grant


def _given(application: Application, grant: Grant, scopes: tuple[str, ...]) -> Response:
    here, asked = instance(), grant.asked
    text, _ = issue(application, asked.user_id, asked.org_id, scopes, grant)
    body = {
        "access_token": text,
        "token_type": "Bearer",
        "expires_in": tokens.ACCESS_LIFE_S,
        "scope": " ".join(scopes),
        "refresh_token": here.applications.refresh(grant, scopes),
    }
    if "openid" in scopes:
        said = tokens.id_claims(here.issuer, asked.user_id, application.client_id, here.clock.now(), asked.nonce)
        body["id_token"] = here.keys.sign(said, {"typ": "JWT"})
    response = jsonify(body)
    response.headers["Cache-Control"] = "no-store"
    return response


def issue(
    application: Application, user_id: str, org_id: str | None, scopes: tuple[str, ...], grant: Grant | None = None
) -> tuple[str, AccessToken]:
    """Make an access token in the application's form and remember it; give its text."""
    here = instance()
    made = here.applications.access(application, user_id, org_id, scopes, grant)
    text = new_id("oat_") + new_id("")
    if not application.is_opaque:
        said = tokens.access_claims(
            made.token_id, here.issuer, user_id, application.client_id, scopes, made.created_at,
            org_id=org_id, audience=application.audience,
        )  # fmt: skip
        text = here.keys.sign(said, tokens.access_header())
    here.applications.keep(text, made)
    return text, made


@blueprint.route("/oauth/userinfo", methods=["GET", "POST"])
def userinfo() -> Response:
    kind, _, text = request.headers.get("Authorization", "").partition(" ")
    found = instance().applications.find_access(text) if kind == "Bearer" else None
    person = people.person_by_id(found.user_id) if found is not None else None
    if found is None or person is None or not instance().applications.is_live(found):
        raise OAuthError("invalid_token", "the access token is not good", 401)
    said: dict[str, object] = {"object": "oauth_user_info", "sub": person.user_id, "user_id": person.user_id}
    if "email" in found.scopes:
        said |= {"email": person.email, "email_verified": True}
    if "profile" in found.scopes:
        full = f"{person.first_name} {person.last_name}"
        said |= {"name": full, "given_name": person.first_name, "family_name": person.last_name}
    if found.org_id:
        said["org_id"] = found.org_id
    return jsonify(said)


@blueprint.post("/oauth/token_info")
def token_info() -> Response:
    """RFC 7662. A token of another client is not active: the service says nothing of it."""
    application = _client(public=False)
    text = request.form.get("token")
    if not text:
        raise OAuthError("invalid_request", "token is required")
    known = instance().applications
    found = known.find_access(text)
    if found is None or found.client_id != application.client_id or not known.is_live(found):
        return jsonify(active=False)
    said = {
        "active": True,
        "client_id": found.client_id,
        "iat": int(found.created_at),
        "scope": " ".join(found.scopes),
        "sub": found.user_id,
    }
    return jsonify(said | ({"org_id": found.org_id} if found.org_id else {}))


@blueprint.post("/oauth/token/revoke")
def revoke() -> Response:
    """RFC 7009: 200 whether there was such a token or not."""
    application = _client(public=True)
    if not request.form.get("token"):
        raise OAuthError("invalid_request", "token is required")
    instance().applications.revoke(request.form["token"], application.client_id)
    return jsonify({})


def _client(*, public: bool) -> Application:
    """Give the client that authenticates itself. Raises OAuthError. `public`: one without a secret will do."""
    if any(len(request.form.getlist(name)) > 1 for name in request.form):
        raise OAuthError("invalid_request", "a parameter is given twice")
    client_id, secret = request.form.get("client_id", ""), request.form.get("client_secret", "")
    if "Authorization" in request.headers:
        basic_id, basic_secret = _basic()
        if secret or client_id not in ("", basic_id):
            raise OAuthError("invalid_request", "one way of authentication, not two (RFC 6749 section 2.3)")
        client_id, secret = basic_id, basic_secret
    application = instance().applications.by_client.get(client_id)
    known = application is not None and hmac.compare_digest(application.secret.encode(), secret.encode())
    if application is None or not known or (application.is_public and not public):
        raise OAuthError("invalid_client", "the client is unknown or its secret is wrong", 401)
    return application


def _basic() -> tuple[str, str]:
    """RFC 6749 section 2.3.1: both halves are form-encoded before they are joined."""
    kind, _, encoded = request.headers["Authorization"].partition(" ")
    try:
        name, colon, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (ValueError, binascii.Error):
        kind, colon, name, secret = "", "", "", ""
    if kind.lower() != "basic" or not colon:
        raise OAuthError("invalid_client", "Basic credentials are expected", 401)
    return unquote_plus(name), unquote_plus(secret)
