"""/issuers: whose tokens a tenant takes besides Clerk's."""

from __future__ import annotations

from werkzeug.wrappers import Response

from webapp.api.blueprint import IdPath, created, endpoint, if_match, noun, show, wrote
from webapp.auth.bearer import current_actor
from webapp.schemas.issuer import IssuerNew, IssuerPatch, IssuerQuery, IssuerView
from webapp.schemas.paging import Page
from webapp.services import issuers

blueprint = noun("issuers", "Authorities besides the sign-in service whose tokens the tenant takes.")


class IssuerPage(Page[IssuerView]):
    pass


@blueprint.get("/issuers", summary="List issuers", responses={200: IssuerPage})
@endpoint
def index(query: IssuerQuery) -> Response:
    return show(issuers.page(current_actor(), query))


@blueprint.post("/issuers", summary="Make an issuer", responses={201: IssuerView})
@endpoint
def create(body: IssuerNew) -> Response:
    written = issuers.create(current_actor(), body)
    return created(written.view, written.receipt, "issuers")


@blueprint.get("/issuers/<uuid:id>", summary="Get one", responses={200: IssuerView})
@endpoint
def get(path: IdPath) -> Response:
    return show(issuers.get(current_actor(), path.id))


@blueprint.patch("/issuers/<uuid:id>", summary="Change one", responses={200: IssuerView})
@endpoint
def update(path: IdPath, body: IssuerPatch) -> Response:
    written = issuers.update(current_actor(), path.id, body, if_match())
    return wrote(written.view, written.receipt)


@blueprint.delete("/issuers/<uuid:id>", summary="Remove one", responses={204: None})
@endpoint
def remove(path: IdPath) -> Response:
    return wrote(None, issuers.remove(current_actor(), path.id, if_match()))
