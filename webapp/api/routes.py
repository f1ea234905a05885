"""/routes: which requests go where, on what terms."""

from __future__ import annotations

from werkzeug.wrappers import Response

from webapp.api.blueprint import IdPath, created, endpoint, if_match, noun, show, wrote
from webapp.auth.bearer import current_actor
from webapp.schemas.paging import Page
from webapp.schemas.route import RouteNew, RoutePatch, RouteQuery, RouteView
from webapp.services import routes

blueprint = noun("routes", "Which requests go to which origin, for whom, and how often.")


class RoutePage(Page[RouteView]):
    pass


@blueprint.get("/routes", summary="List routes", responses={200: RoutePage})
@endpoint
def index(query: RouteQuery) -> Response:
    return show(routes.page(current_actor(), query))


@blueprint.post("/routes", summary="Make a route", responses={201: RouteView})
@endpoint
def create(body: RouteNew) -> Response:
    written = routes.create(current_actor(), body)
    return created(written.view, written.receipt, "routes")


@blueprint.get("/routes/<uuid:id>", summary="Get one", responses={200: RouteView})
@endpoint
def get(path: IdPath) -> Response:
    return show(routes.get(current_actor(), path.id))


@blueprint.patch("/routes/<uuid:id>", summary="Change one", responses={200: RouteView})
@endpoint
def update(path: IdPath, body: RoutePatch) -> Response:
    written = routes.update(current_actor(), path.id, body, if_match())
    return wrote(written.view, written.receipt)


@blueprint.delete("/routes/<uuid:id>", summary="Remove one", responses={204: None})
@endpoint
def remove(path: IdPath) -> Response:
    return wrote(None, routes.remove(current_actor(), path.id, if_match()))
