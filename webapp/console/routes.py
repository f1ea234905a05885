"""The pages of routes: list in match order, one, new, edit, switch, delete, and what a half-typed route would do.

In:    forms and the path.
Out:   pages; writes through services.routes.
Laws:  1. The list is in the order in which the edge tries the routes (contracts.patterns.Pattern.rank).
Not here: between form and API's shape (route_form), plain words (route_words), rules (webapp.schemas.route).
"""

from __future__ import annotations

from typing import Final, NamedTuple
from uuid import UUID

from flask import Response, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from contracts.bounds import METHODS, PAGE_ITEMS_MAX
from webapp.console import route_form, route_words
from webapp.console.access import reads, visit, writes
from webapp.console.curl import curl_for_route
from webapp.console.forms import Form, without_nones
from webapp.console.rendering import counted, duration, go, page, wants_fragment
from webapp.console.writing import live_note, submitted
from webapp.schemas.origin import OriginQuery, OriginView
from webapp.schemas.route import RouteNew, RoutePatch, RouteQuery, RouteView
from webapp.services import origins, routes
from webapp.services.actor import require_admin

ROWS_MAX: Final = 500
_AUTH: Final = {
    "public": "public",
    "jwt_required": "session token",
    "apikey_required": "API key",
    "oauth_required": "OAuth token",
    "service_required": "service",
    "any": "several kinds",
}
_AUTH_CARDS: Final = (
    ("public", "Nothing", "Open to anyone"),
    ("jwt_required", "A session token", "Users of your organisation"),
    ("apikey_required", "An API key", "In X-API-Key or Authorization"),
    ("oauth_required", "An OAuth token", "Apps that act for a user"),
    ("service_required", "A service's proof", "A machine token or a signature"),
)


class Row(NamedTuple):
    position: int
    route: RouteView
    origin_name: str
    auth: str
    limit: str | None
    cache: str | None


def all_routes() -> list[RouteView]:
    """Give every route of the tenant, in match order."""
    found: list[RouteView] = []
    cursor: str | None = None
    while True:
        part = routes.page(visit().actor, RouteQuery(limit=PAGE_ITEMS_MAX, cursor=cursor))
        found.extend(part.items)
        cursor = part.next_cursor
        if cursor is None:
            return route_form.in_match_order(found)


def all_origins() -> list[OriginView]:
    found: list[OriginView] = []
    cursor: str | None = None
    while True:
        part = origins.page(visit().actor, OriginQuery(limit=PAGE_ITEMS_MAX, cursor=cursor))
        found.extend(part.items)
        cursor = part.next_cursor
        if cursor is None:
            return found


def _row(position: int, route: RouteView, origin_name: str) -> Row:
    limit = route_words.limits_in_short(route.rate_limit.model_dump() if route.rate_limit else None)
    cache = duration(route.cache_policy.ttl_seconds) if route.cache_policy and route.cache_policy.enabled else None
    return Row(position, route, origin_name, _AUTH[route.auth_mode], limit, cache)


@reads("/routes", "routes_index")
def index() -> Response:
    query = request.args.get("q", "").strip()[:200]
    names = {origin.id: origin.name for origin in all_origins()}
    rows = [
        _row(position, route, names.get(route.origin_id, "unknown"))
        for position, route in enumerate(all_routes(), 1)
        if _fits(query.lower(), route, names.get(route.origin_id, ""))
    ]
    return page(
        "console/routes/index.html",
        items=rows[:ROWS_MAX],
        more=max(0, len(rows) - ROWS_MAX),
        query=query,
        has_origins=bool(names),
    )


def _fits(query: str, route: RouteView, origin_name: str) -> bool:
    return any(query in text.lower() for text in (route.path_pattern, route.name or "", origin_name))


@reads("/routes/<uuid:route_id>", "routes_show")
def show(route_id: UUID) -> Response:
    route = routes.get(visit().actor, route_id)
    origin = origins.get(visit().actor, route.origin_id)
    return page(
        "console/routes/show.html",
        route=route,
        origin_name=origin.name,
        steps=route_words.steps(route.model_dump(), origin.name),
        curl=curl_for_route(visit().edge_url, route),
    )


@reads("/routes/new", "routes_new")
def new() -> AnyResponse:
    require_admin(visit().actor)
    found = all_origins()
    if not found:
        return go(url_for("console.origins_new", subdomain=visit().tenant.subdomain), "A route needs an origin first")
    return _editor(route_form.blank(request.args.get("origin_id") or str(found[0].id)), None, found)


@writes("/routes/new", "routes_create")
def create() -> AnyResponse:
    form = Form(request.form)
    written = submitted(
        form,
        route_form.CONTROLS,
        lambda: RouteNew.model_validate(without_nones(route_form.payload(form))),
        lambda route: routes.create(visit().actor, route),
    )
    if written is None:
        return _editor(form, None, all_origins(), 422)
    return go(
        _address("routes_show", written.view.id),
        f"Route {written.view.path_pattern} created",
        live_note(written.receipt),
    )


@reads("/routes/<uuid:route_id>/edit", "routes_edit")
def edit(route_id: UUID) -> Response:
    require_admin(visit().actor)
    route = routes.get(visit().actor, route_id)
    return _editor(route_form.filled(route), route, all_origins())


@writes("/routes/<uuid:route_id>/edit", "routes_update")
def update(route_id: UUID) -> AnyResponse:
    form = Form(request.form)
    route = routes.get(visit().actor, route_id)
    written = submitted(
        form,
        route_form.CONTROLS,
        lambda: RoutePatch.model_validate(route_form.payload(form, route)),
        lambda patch: routes.update(visit().actor, route_id, patch, if_match=form.whole("etag")),
    )
    if written is None:
        return _editor(form, route, all_origins(), 422)
    return go(_address("routes_show", route_id), f"Route {written.view.path_pattern} saved", live_note(written.receipt))


@writes("/routes/<uuid:route_id>/toggle", "routes_toggle")
def toggle(route_id: UUID) -> AnyResponse:
    form = Form(request.form)
    patch = RoutePatch(enabled=form.checked("enabled"))
    written = routes.update(visit().actor, route_id, patch, if_match=None)
    message = f"Route {written.view.path_pattern} is {'on' if written.view.enabled else 'off'}"
    note = live_note(written.receipt)
    if not wants_fragment():
        return go(_address("routes_index"), message, note)
    origin = origins.get(visit().actor, written.view.origin_id)
    row = _row(form.whole("position") or 0, written.view, origin.name)
    answer = page("console/routes/index.html", block="row", row=row)
    toast = render_template("components/toast_oob.html", message=message, note=note, tone="good")
    answer.set_data(answer.get_data(as_text=True) + toast)
    return answer


@reads("/routes/<uuid:route_id>/delete", "routes_delete")
def ask_delete(route_id: UUID) -> Response:
    require_admin(visit().actor)
    return _ask(routes.get(visit().actor, route_id), Form())


@writes("/routes/<uuid:route_id>/delete", "routes_destroy")
def destroy(route_id: UUID) -> AnyResponse:
    form = Form(request.form)
    route = routes.get(visit().actor, route_id)
    receipt = submitted(
        form, {}, lambda: form.whole("etag"), lambda etag: routes.remove(visit().actor, route_id, if_match=etag)
    )
    if receipt is None:
        return _ask(route, form, 422)
    return go(_address("routes_index"), f"Route {route.path_pattern} deleted", live_note(receipt))


@writes("/routes/summary", "routes_summary")
def summary() -> Response:
    """Say what the half-typed route would do; writes nothing, so that any role may ask."""
    form = Form(request.form)
    edited = request.args.get("route_id", type=UUID)
    route = routes.get(visit().actor, edited) if edited is not None else None
    names = {str(origin.id): origin.name for origin in all_origins()}
    steps = route_words.steps(route_form.payload(form, route), names.get(form.value("origin_id")))
    return Response(render_template("console/routes/_summary.html", steps=steps))


def _ask(route: RouteView, form: Form, status: int = 200) -> Response:
    return page("console/routes/delete.html", block="ask", status=status, route=route, form=form)


def _editor(form: Form, route: RouteView | None, found: list[OriginView], status: int = 200) -> Response:
    names = {str(origin.id): origin.name for origin in found}
    kinds = [
        ("none", "None", "No limit"),
        ("token_bucket", "Token bucket", "A rate with bursts"),
        ("sliding_window", "Sliding window", "So many in a time"),
    ]
    if route is not None and route_form.is_beyond_form(route.rate_limit):
        policies = route.rate_limit.policies if route.rate_limit and route.rate_limit.policies else ()
        kinds.insert(0, ("keep", "As it is", f"{counted(len(policies), 'policy', 'policies')} set through the API"))
    cards = list(_AUTH_CARDS)
    if route is not None and route.auth_mode == "any":
        cards.append(("any", "Any of several", f"{_list_of(route.accept)}, set through the API"))
    return page(
        "console/routes/edit.html",
        block="form" if status != 200 else None,
        status=status,
        route=route,
        form=form,
        methods=METHODS,
        limit_kinds=kinds,
        auth_cards=cards,
        origin_options=list(names.items()),
        steps=route_words.steps(route_form.payload(Form(form.raw()), route), names.get(form.value("origin_id"))),
    )


def _list_of(accept: tuple[str, ...]) -> str:
    return ", ".join(_AUTH[f"{kind}_required"] for kind in accept)


def _address(endpoint: str, route_id: UUID | None = None) -> str:
    return url_for(f"console.{endpoint}", subdomain=visit().tenant.subdomain, route_id=route_id)
