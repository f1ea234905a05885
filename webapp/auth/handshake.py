"""Clerk's handshake: how a full page gets a fresh session cookie when the 60 s token it came with is too old.

    browser --GET page--> us --307--> Clerk /v1/client/handshake --307--> us ?__clerk_handshake=... --307--> page

In:    a GET for a document whose cookies do not settle who is there.
Out:   the redirect to Clerk; on the way back the cookies it orders, then a redirect to the clean URL.
Laws:  1. Only documents shake hands; anything else is told 401. 2. Three in a row without a result end it. 3. The
       orders are signed by the instance's key, are of a category that no template can make, and set Clerk's own
       cookies only. 4. From the query they are taken on development instances alone: a link could sign one in.
Not here: what is believed afterwards (webapp.auth.verifier).
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import jwt
from flask import redirect, request
from werkzeug.wrappers import Response

from contracts.clerk import SessionRefused, peek_key_id
from webapp.auth import cookies
from webapp.auth.keyset import Keys, KeysUnavailable
from webapp.auth.verifier import Verifier
from webapp.settings import Settings

API_VERSION: Final = "2026-05-12"
ATTEMPTS_MAX: Final = 3
_COUNT: Final = "__clerk_redirect_count"
_ORDER: Final = "__clerk_handshake"
_DEV_BROWSER: Final = "__clerk_db_jwt"
_OWN_QUERY: Final = frozenset({_ORDER, "__clerk_handshake_nonce", _DEV_BROWSER, "__clerk_help", "__clerk_synced"})


def wants_document() -> bool:
    """Say whether a browser asked for a page of its own (not htmx, not fetch)."""
    if request.method != "GET" or request.headers.get("HX-Request"):
        return False
    destination = request.headers.get("Sec-Fetch-Dest")
    if destination is not None:
        return destination in ("document", "iframe")
    return request.headers.get("Accept", "").startswith("text/html")


def reason(settings: Settings, refusal: str | None, issued_at: float | None) -> str | None:
    """Say why a handshake would help, or None. `refusal` is the token's, '' when there is no token."""
    suffix = cookies.suffix_of(settings.clerk.publishable_key)
    if settings.clerk.is_development_instance:
        if _DEV_BROWSER in request.args:
            return "dev-browser-sync"
        if not cookies.read(request.cookies, _DEV_BROWSER, suffix):
            return "dev-browser-missing"
    seen_at = cookies.client_seen_at(request.cookies, suffix)
    if refusal == "":
        return "client-uat-but-no-session-token" if seen_at else None
    if not seen_at:
        return "session-token-but-no-client-uat"
    if issued_at is not None and issued_at < seen_at:
        return "session-token-iat-before-client-uat"
    if refusal in ("session-token-expired", "session-token-nbf", "session-token-iat-in-the-future"):
        return refusal
    return None


def begin(settings: Settings, why: str) -> Response | None:
    """Send the browser to Clerk, or None when that was tried too often just now."""
    count = request.cookies.get(_COUNT, "0")
    attempts = int(count) if count in ("0", "1", "2") else ATTEMPTS_MAX
    if attempts >= ATTEMPTS_MAX:
        return None
    suffix = cookies.suffix_of(settings.clerk.publishable_key)
    query = {
        "redirect_url": settings.console_url + clean_url(),
        "__clerk_api_version": API_VERSION,
        "suffixed_cookies": "true",
        "__clerk_hs_reason": why,
    }
    if settings.clerk.is_development_instance:
        browser = request.args.get(_DEV_BROWSER) or cookies.read(request.cookies, _DEV_BROWSER, suffix)
        if browser:
            query[_DEV_BROWSER] = browser
    response = _fresh(f"{settings.clerk.frontend_api_url}/v1/client/handshake?{urlencode(query)}")
    response.set_cookie(_COUNT, str(attempts + 1), max_age=2, httponly=True, samesite="Lax")
    return response


def finish(settings: Settings, verifier: Verifier) -> Response | None:
    """Carry out a handshake's orders, if this request brings them. None when it brings none we may follow."""
    order = request.cookies.get(_ORDER, "")
    if not order and settings.clerk.is_development_instance:
        order = request.args.get(_ORDER, "")
    if not order:
        return None
    directives = _directives(order, verifier)
    if directives is None:
        return None
    response = _fresh(settings.console_url + clean_url())
    for directive in directives:
        if cookies.may_set(directive):
            response.headers.add("Set-Cookie", directive)
    response.delete_cookie(_ORDER)
    return response


def _directives(order: str, verifier: Verifier) -> list[str] | None:
    try:
        claims = _signed(order, verifier.keys())
        if claims is None:
            renewed = verifier.renewed_keys()
            claims = None if renewed is None else _signed(order, renewed)
    except (SessionRefused, KeysUnavailable):
        return None
    listed = claims.get("handshake") if claims else None
    if not isinstance(listed, list):
        return None
    return [item for item in listed if isinstance(item, str)]


def _signed(order: str, keys: Keys) -> dict[str, object] | None:
    key = keys.get(peek_key_id(order))
    if key is None:
        return None
    try:
        claims: dict[str, object] = jwt.decode(order, key, algorithms=["RS256"], options={"verify_aud": False})
    except jwt.PyJWTError:
        return None
    return claims


def clean_url() -> str:
    """Give this request's path and query without what Clerk added to it."""
    parts = urlsplit(request.full_path)
    kept = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name not in _OWN_QUERY]
    path = "/" + quote(request.path.lstrip("/"), safe="/:@!$&'()*+,;=~-._")
    return urlunsplit(("", "", path, urlencode(kept), ""))


def _fresh(location: str) -> Response:
    response = redirect(location, 307)
    response.headers["Cache-Control"] = "no-store"
    return response
