"""/services: machines that call; a secret is shown by the call that made it, once."""

from __future__ import annotations

from werkzeug.wrappers import Response

from webapp.api.blueprint import IdPath, created, endpoint, if_match, noun, show, wrote
from webapp.auth.bearer import current_actor
from webapp.schemas.paging import Page
from webapp.schemas.service import ServiceMade, ServiceNew, ServicePatch, ServiceQuery, ServiceRotation, ServiceView
from webapp.services import services

blueprint = noun("services", "Machines that call: they sign their requests, or bring a token of Clerk's.")


class ServicePage(Page[ServiceView]):
    pass


@blueprint.get("/services", summary="List services", responses={200: ServicePage})
@endpoint
def index(query: ServiceQuery) -> Response:
    return show(services.page(current_actor(), query))


@blueprint.post("/services", summary="Make a service; its secret is shown this once", responses={201: ServiceMade})
@endpoint
def create(body: ServiceNew) -> Response:
    written = services.create(current_actor(), body)
    return created(written.view, written.receipt, "services")


@blueprint.get("/services/<uuid:id>", summary="Get one", responses={200: ServiceView})
@endpoint
def get(path: IdPath) -> Response:
    return show(services.get(current_actor(), path.id))


@blueprint.patch("/services/<uuid:id>", summary="Change one", responses={200: ServiceView})
@endpoint
def update(path: IdPath, body: ServicePatch) -> Response:
    written = services.update(current_actor(), path.id, body, if_match())
    return wrote(written.view, written.receipt)


@blueprint.delete("/services/<uuid:id>", summary="Remove one", responses={204: None})
@endpoint
def remove(path: IdPath) -> Response:
    return wrote(None, services.remove(current_actor(), path.id, if_match()))


@blueprint.post("/services/<uuid:id>/rotate", summary="Give a service a new secret", responses={200: ServiceMade})
@endpoint
def rotate(path: IdPath, body: ServiceRotation) -> Response:
    written = services.rotate(current_actor(), path.id, body, if_match())
    return wrote(written.view, written.receipt)


@blueprint.post("/services/<uuid:id>/revoke", summary="End a service for ever", responses={200: ServiceView})
@endpoint
def revoke(path: IdPath) -> Response:
    written = services.revoke(current_actor(), path.id, if_match())
    return wrote(written.view, written.receipt)


@blueprint.post("/services/<uuid:id>/enable", summary="Switch a service on", responses={200: ServiceView})
@endpoint
def enable(path: IdPath) -> Response:
    written = services.enable(current_actor(), path.id, if_match())
    return wrote(written.view, written.receipt)


@blueprint.post("/services/<uuid:id>/disable", summary="Switch a service off", responses={200: ServiceView})
@endpoint
def disable(path: IdPath) -> Response:
    written = services.disable(current_actor(), path.id, if_match())
    return wrote(written.view, written.receipt)
