"""The frame of every page: who visits which tenant, what templates may count on, which headers an answer has.

In:    g.actor and g.tenant, as webapp.auth.console found them.
Out:   the blueprint; `reads` and `writes`, which make a function a page of a tenant; visit() within one.
Laws:  1. Every page of a tenant is made by `reads` or `writes`, so none is without the guard of webapp.auth.console.
       2. Every answer carries the security headers. 3. What a person typed into a form outlives their session.
Not here: believing tokens, forgery (webapp.auth), what a role may do (webapp.services).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from flask import Blueprint, Response, g, request
from flask.typing import ResponseReturnValue
from pydantic import ValidationError

from webapp.auth.callers import request_id
from webapp.auth.console import csrf_token, signed_in
from webapp.console import headers
from webapp.console.rendering import page, wants_fragment
from webapp.extensions import current_settings
from webapp.schemas.paging import PageQuery
from webapp.schemas.tenant import TenantView
from webapp.services.actor import Actor, may_change
from webapp.services.errors import NotFound, ServiceError, invalid_from
from webapp.settings import ClerkSettings

View = Callable[..., ResponseReturnValue]
Q = TypeVar("Q", bound=PageQuery)
blueprint = Blueprint("console", __name__)
NAVIGATION: Final = (
    ("console.overview", "Overview", "layout-dashboard"),
    ("console.origins_index", "Origins", "server"),
    ("console.routes_index", "Routes", "route"),
    ("console.api_keys_index", "API keys", "key-round"),
    ("console.cache_index", "Cache", "database-zap"),
    ("console.config_index", "Config versions", "history"),
)
_NEVER_REPEATED: Final = frozenset({"csrf_token", "key"})


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of a person to a page of their tenant."""

    actor: Actor
    tenant: TenantView
    edge_url: str


def visit() -> Visit:
    """Give the visit of this request. Raises NotFound outside a tenant."""
    actor, tenant = g.get("actor"), g.get("tenant")
    if actor is None or tenant is None:
        raise NotFound
    return Visit(actor, tenant, current_settings().edge_url(tenant.subdomain))


def page_asked_for(query: type[Q]) -> Q:
    """Give the place in a list that this request's `cursor` names. Raises Invalid."""
    try:
        return query(cursor=request.args.get("cursor"))
    except ValidationError as error:
        raise invalid_from(error) from None


def reads(path: str, endpoint: str) -> Callable[[View], View]:
    """Make a function the page at /t/<subdomain><path>."""
    return _at(path, endpoint, "GET")


def writes(path: str, endpoint: str) -> Callable[[View], View]:
    """Make a function what a form is sent to, at /t/<subdomain><path>."""
    return _at(path, endpoint, "POST")


def _at(path: str, endpoint: str, method: str) -> Callable[[View], View]:
    def place(view: View) -> View:
        @signed_in
        def guarded(subdomain: str, **values: Any) -> ResponseReturnValue:
            return view(**values)

        @functools.wraps(view)
        def whole(**values: Any) -> ResponseReturnValue:
            answer = guarded(**values)
            return _keep_typed(answer) if method == "POST" else answer

        blueprint.add_url_rule(f"/t/<subdomain>{path}", endpoint, whole, methods=[method])
        return view

    return place


def _keep_typed(answer: ResponseReturnValue) -> ResponseReturnValue:
    """Where the guard refused a plain form for its session's age, answer a page that can send the form again.

    With scripts on this is not needed: static/js/session.js renews the session and sends the form once more.
    """
    if "session" in g or wants_fragment():
        return answer
    typed = [(name, value) for name, value in request.form.items(multi=True) if name not in _NEVER_REPEATED]
    return page("console/session/expired.html", status=401, typed=typed, csrf=request.form.get("csrf_token", ""))


@blueprint.after_request
def frame(response: Response) -> Response:
    """Put the security headers on an answer."""
    settings = current_settings()
    loose = request.endpoint == "console.sign_in"
    secure = settings.console_url.startswith("https://")
    return headers.protect(response, settings.clerk.frontend_api_url, secure=secure, loose=loose)


@blueprint.errorhandler(ServiceError)
def refused(error: ServiceError) -> Response:
    """Show what went wrong as a page, wherever it did. Another tenant's thing reads as one that does not exist."""
    answer = page(
        "console/errors/problem.html",
        status=error.problem.status,
        title=error.problem.title,
        detail=error.detail,
        request_id=request_id(),
    )
    return frame(answer)


@blueprint.app_context_processor
def _context() -> dict[str, Any]:
    settings = current_settings()
    context: dict[str, Any] = {
        "csrf_token": csrf_token,
        "clerk_js_url": f"{settings.clerk.frontend_api_url}/npm/@clerk/clerk-js@6/dist/clerk.browser.js",
        "clerk_publishable_key": settings.clerk.publishable_key,
        "clerk_proxy_url": clerk_proxy_url(settings.clerk),
        "base_domain": settings.edge_base_domain,
    }
    if g.get("actor") is not None and g.get("tenant") is not None:
        seen = visit()
        is_admin = may_change(seen.actor)
        context |= {
            "tenant": seen.tenant,
            "is_admin": is_admin,
            "person_name": seen.actor.email or seen.actor.clerk_user_id or "You",
            "edge_url": seen.edge_url,
            "edge_host": urlsplit(seen.edge_url).netloc,
            "navigation": NAVIGATION,
            "here": _here(request.endpoint or ""),
        }
    return context


def clerk_proxy_url(clerk: ClerkSettings) -> str | None:
    """Give the address that Clerk's script must be told, where it is not the one its key names."""
    host = urlsplit(clerk.frontend_api_url).netloc
    return None if clerk.frontend_api_url == f"https://{host}" else clerk.frontend_api_url


def _here(endpoint: str) -> str:
    """Give the entry of the navigation a page belongs to: its noun's first page."""
    noun = endpoint.rpartition("_")[0]
    return next((entry for entry, *_ in NAVIGATION if entry == endpoint or entry.rpartition("_")[0] == noun), "")
