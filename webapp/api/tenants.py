"""/tenants: made for one's organisation, then seen and changed."""

from __future__ import annotations

from flask import g
from werkzeug.wrappers import Response

from webapp.api.blueprint import IdPath, created, endpoint, if_match, noun, show, wrote
from webapp.auth.bearer import current_actor
from webapp.schemas.paging import Page
from webapp.schemas.tenant import TenantNew, TenantPatch, TenantQuery, TenantView
from webapp.services import tenants
from webapp.services.actor import Actor
from webapp.services.errors import NotFound

blueprint = noun("tenants", "The tenant of an organisation.")


class TenantPage(Page[TenantView]):
    pass


def _actor() -> Actor:
    """Whoever has no tenant yet finds none by any id."""
    if g.actor is None:
        raise NotFound
    return current_actor()


@blueprint.get("/tenants", summary="List your tenants", responses={200: TenantPage})
@endpoint
def index(query: TenantQuery) -> Response:
    return show(tenants.page(g.caller, query))


@blueprint.post("/tenants", summary="Make your organisation's tenant", responses={201: TenantView})
@endpoint
def create(body: TenantNew) -> Response:
    written = tenants.create(g.caller, body)
    return created(written.view, written.receipt, "tenants")


@blueprint.get("/tenants/<uuid:id>", summary="Get a tenant", responses={200: TenantView})
@endpoint
def get(path: IdPath) -> Response:
    return show(tenants.get(_actor(), path.id))


@blueprint.patch("/tenants/<uuid:id>", summary="Change a tenant", responses={200: TenantView})
@endpoint
def update(path: IdPath, body: TenantPatch) -> Response:
    written = tenants.update(_actor(), path.id, body, if_match())
    return wrote(written.view, written.receipt)


@blueprint.delete("/tenants/<uuid:id>", summary="Remove a tenant and all that is its", responses={204: None})
@endpoint
def remove(path: IdPath) -> Response:
    return wrote(None, tenants.remove(_actor(), path.id, if_match()))
