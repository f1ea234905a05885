"""/origins: where requests go."""

from __future__ import annotations

from werkzeug.wrappers import Response

from webapp.api.blueprint import IdPath, created, endpoint, if_match, noun, show, wrote
from webapp.auth.bearer import current_actor
from webapp.schemas.origin import OriginNew, OriginPatch, OriginQuery, OriginView
from webapp.schemas.paging import Page
from webapp.services import origins

blueprint = noun("origins", "Where routes lead: one or more targets.")


class OriginPage(Page[OriginView]):
    pass


@blueprint.get("/origins", summary="List origins", responses={200: OriginPage})
@endpoint
def index(query: OriginQuery) -> Response:
    return show(origins.page(current_actor(), query))


@blueprint.post("/origins", summary="Make an origin", responses={201: OriginView})
@endpoint
def create(body: OriginNew) -> Response:
    written = origins.create(current_actor(), body)
    return created(written.view, written.receipt, "origins")


@blueprint.get("/origins/<uuid:id>", summary="Get one", responses={200: OriginView})
@endpoint
def get(path: IdPath) -> Response:
    return show(origins.get(current_actor(), path.id))


@blueprint.patch("/origins/<uuid:id>", summary="Change one", responses={200: OriginView})
@endpoint
def update(path: IdPath, body: OriginPatch) -> Response:
    written = origins.update(current_actor(), path.id, body, if_match())
    return wrote(written.view, written.receipt)


@blueprint.delete("/origins/<uuid:id>", summary="Remove one", responses={204: None})
@endpoint
def remove(path: IdPath) -> Response:
    return wrote(None, origins.remove(current_actor(), path.id, if_match()))
