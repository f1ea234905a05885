"""The console's door: Clerk's `__session` cookie on each request, and no second session of our own.

In:    the request's cookies.
Out:   g.session, g.caller, g.actor, g.tenant for a view; a handshake, a 303 to the sign-in page or a 401 instead of it.
Laws:  1. The tenant in the URL is the active organisation's, or the page does not exist. 2. What changes things is
       never a GET; it comes from our own origin (Sec-Fetch-Site, else Origin) and carries a token bound to the session.
       3. htmx is told 401 with the reason: 60 s are over more often than a session is. 4. `next` is a path of ours.
Not here: pages (webapp.console).
"""

from __future__ import annotations

import functools
import hashlib
import hmac
from collections.abc import Callable
from typing import Any, Final, ParamSpec
from urllib.parse import urlencode

from flask import Response, g, make_response, redirect, request
from flask.typing import ResponseReturnValue

from contracts.clerk import Session, SessionRefused
from webapp.auth import cookies, handshake
from webapp.auth.bearer import IdentityUnavailable
from webapp.auth.callers import caller_of
from webapp.auth.keyset import KeysUnavailable
from webapp.auth.verifier import current_verifier
from webapp.extensions import current_settings
from webapp.services import tenants
from webapp.services.errors import Forbidden, NotFound

P = ParamSpec("P")
View = Callable[P, ResponseReturnValue]
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
SIGN_IN_PATH: Final = "/sign-in"
CSRF_FIELD: Final = "csrf_token"
CSRF_HEADER: Final = "X-CSRF-Token"


def signed_in(view: View[P]) -> View[P]:
    """Let a view run for somebody who is signed in and whose organisation has the tenant of the URL.

    The URL's `subdomain` must be the tenant's; a URL without one takes any. Sets g.session, g.caller, g.actor and
    g.tenant.
    """
    return _guard(view, needs_tenant=True)


def signed_in_anywhere(view: View[P]) -> View[P]:
    """The same for pages outside a tenant.

    g.caller is None without an active organisation; g.actor and g.tenant are None while it has no tenant.
    """
    return _guard(view, needs_tenant=False)


def _guard(view: View[P], *, needs_tenant: bool) -> View[P]:
    @functools.wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> ResponseReturnValue:
        answer = _admit()
        if answer is not None:
            return answer
        if request.method not in _SAFE:
            check_csrf(g.session)
        _find_tenant()
        if needs_tenant:
            wanted = (request.view_args or {}).get("subdomain")
            if g.tenant is None or (wanted is not None and wanted != g.tenant.subdomain):
                raise NotFound
        return view(*args, **kwargs)

    return guarded


def _admit() -> ResponseReturnValue | None:
    """Set g.session, or give the answer that leads to one."""
    settings, verifier = current_settings(), current_verifier()
    if handshake.wants_document():
        finished = handshake.finish(settings, verifier)
        if finished is not None:
            return finished
    suffix = cookies.suffix_of(settings.clerk.publishable_key)
    token = cookies.read(request.cookies, "__session", suffix)
    refusal: str = ""
    session: Session | None = None
    if token:
        try:
            session = verifier.session(token, from_cookie=True)
        except SessionRefused as refused:
            refusal = refused.reason
        except KeysUnavailable:
            raise IdentityUnavailable from None
    if handshake.wants_document():
        why = handshake.reason(settings, None if session else refusal, session.issued_at if session else None)
        begun = handshake.begin(settings, why) if why else None
        if begun is not None:
            return begun
    if session is None:
        return _signed_out(refusal or "session-token-missing")
    g.session = session
    return None


def _find_tenant() -> None:
    g.caller = caller_of(g.session, "console")
    found = None if g.caller is None else tenants.sign_in(g.caller)
    g.actor, g.tenant = (None, None) if found is None else found


def _signed_out(why: str) -> ResponseReturnValue:
    if handshake.wants_document():
        return redirect(f"{SIGN_IN_PATH}?{urlencode({'next': handshake.clean_url()})}", 303)
    response = make_response("", 401)
    response.headers["X-Clerk-Auth-Reason"] = why
    response.headers["WWW-Authenticate"] = 'Bearer realm="vantageedge"'
    response.headers["Cache-Control"] = "no-store"
    if request.headers.get("HX-Request") is None and "text/html" in request.headers.get("Accept", ""):
        # A plain form sent after its minute: the page of the form, once signed in again, can be filled anew.
        return redirect(f"{SIGN_IN_PATH}?{urlencode({'next': _referring_path()})}", 303)
    return response


def _referring_path() -> str:
    origin = current_settings().console_url
    referrer = request.headers.get("Referer", "")
    return safe_next(referrer[len(origin) :]) if referrer.startswith(origin + "/") else "/"


def csrf_token() -> str:
    """Give the token for forms and htmx of this page: an HMAC of the session's id."""
    return _csrf_of(g.session) if "session" in g else ""


def _csrf_of(session: Session) -> str:
    key = current_settings().secret_key.encode()
    return hmac.new(key, b"csrf\n" + session.session_id.encode(), hashlib.sha256).hexdigest()


def check_csrf(session: Session) -> None:
    """Raises Forbidden unless the request comes from a page of ours, made for this session."""
    site = request.headers.get("Sec-Fetch-Site")
    own = site == "same-origin" if site is not None else request.headers.get("Origin") == current_settings().console_url
    if not own:
        raise Forbidden("The request does not come from a page of the console.")
    given = request.headers.get(CSRF_HEADER) or request.form.get(CSRF_FIELD, "")
    if not hmac.compare_digest(given.encode(), _csrf_of(session).encode()):
        raise Forbidden("The page is too old for this. Reload it, then try again.")


def safe_next(target: str) -> str:
    """Give a path of ours to go on to; "/" for anything else."""
    harmless = target.startswith("/") and not target.startswith("//") and "\\" not in target
    return target if harmless and target.isascii() and target.isprintable() and len(target) <= 2_000 else "/"


def clerk_sign_in_url(next_path: str) -> str:
    """Give the address of Clerk's own sign-in page, which comes back to `next_path`."""
    settings = current_settings()
    host = settings.clerk.frontend_api_url
    pages = host.replace("://clerk.", "://accounts.", 1).replace(".clerk.accounts.dev", ".accounts.dev")
    return f"{pages}/sign-in?{urlencode({'redirect_url': settings.console_url + safe_next(next_path)})}"


def sign_out(location: str = SIGN_IN_PATH) -> Response:
    """End the session here and on the edges, drop its cookies, go on. For a POST that `signed_in_anywhere` guards."""
    current_verifier().deny(g.session.session_id)
    response = make_response(redirect(location, 303))
    suffix = cookies.suffix_of(current_settings().clerk.publishable_key)
    for name in ("__session", "__client_uat"):
        response.delete_cookie(name)
        response.delete_cookie(f"{name}_{suffix}")
    response.headers["Clear-Site-Data"] = '"cache"'
    return response


def register(app: Any) -> None:
    """Give templates `csrf_token()`."""
    app.jinja_env.globals["csrf_token"] = csrf_token
