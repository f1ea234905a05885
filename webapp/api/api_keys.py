"""/api-keys: made and shown once, imported, switched, rotated, revoked."""

from __future__ import annotations

from werkzeug.wrappers import Response

from webapp.api.blueprint import IdPath, created, endpoint, if_match, noun, show, wrote
from webapp.auth.bearer import current_actor
from webapp.schemas.api_key import (
    ApiKeyImport,
    ApiKeyImports,
    ApiKeyMade,
    ApiKeyNew,
    ApiKeyPatch,
    ApiKeyQuery,
    ApiKeyRotate,
    ApiKeysMade,
    ApiKeyView,
)
from webapp.schemas.paging import Page
from webapp.services import api_keys, key_rotation

blueprint = noun("api-keys", "Keys that clients send as X-API-Key.")


class ApiKeyPage(Page[ApiKeyView]):
    pass


@blueprint.get("/api-keys", summary="List keys", responses={200: ApiKeyPage})
@endpoint
def index(query: ApiKeyQuery) -> Response:
    return show(api_keys.page(current_actor(), query))


@blueprint.post("/api-keys", summary="Make a key", responses={201: ApiKeyMade})
@endpoint
def create(body: ApiKeyNew) -> Response:
    written = api_keys.create(current_actor(), body)
    return created(written.view, written.receipt, "api-keys")


@blueprint.get("/api-keys/<uuid:id>", summary="Get one", responses={200: ApiKeyView})
@endpoint
def get(path: IdPath) -> Response:
    return show(api_keys.get(current_actor(), path.id))


@blueprint.patch("/api-keys/<uuid:id>", summary="Change one", responses={200: ApiKeyView})
@endpoint
def update(path: IdPath, body: ApiKeyPatch) -> Response:
    written = api_keys.update(current_actor(), path.id, body, if_match())
    return wrote(written.view, written.receipt)


@blueprint.delete("/api-keys/<uuid:id>", summary="Remove one", responses={204: None})
@endpoint
def remove(path: IdPath) -> Response:
    return wrote(None, api_keys.remove(current_actor(), path.id, if_match()))


@blueprint.post("/api-keys/import", summary="Take over a key that clients hold", responses={201: ApiKeyView})
@endpoint
def import_(body: ApiKeyImport) -> Response:
    written = api_keys.import_(current_actor(), body)
    return created(written.view, written.receipt, "api-keys")


@blueprint.post("/api-keys/<uuid:id>/revoke", summary="End a key for ever", responses={200: ApiKeyView})
@endpoint
def revoke(path: IdPath) -> Response:
    written = api_keys.revoke(current_actor(), path.id, if_match())
    return wrote(written.view, written.receipt)


@blueprint.post("/api-keys/<uuid:id>/enable", summary="Switch a key on", responses={200: ApiKeyView})
@endpoint
def enable(path: IdPath) -> Response:
    written = api_keys.enable(current_actor(), path.id, if_match())
    return wrote(written.view, written.receipt)


@blueprint.post("/api-keys/<uuid:id>/disable", summary="Switch a key off", responses={200: ApiKeyView})
@endpoint
def disable(path: IdPath) -> Response:
    written = api_keys.disable(current_actor(), path.id, if_match())
    return wrote(written.view, written.receipt)


@blueprint.post("/api-keys/import-many", summary="Take over many keys, all or none", responses={201: ApiKeysMade})
@endpoint
def import_many(body: ApiKeyImports) -> Response:
    written = api_keys.import_many(current_actor(), body)
    return wrote(written.view, written.receipt, 201)


@blueprint.post("/api-keys/<uuid:id>/rotate", summary="Make a key's successor", responses={201: ApiKeyMade})
@endpoint
def rotate(path: IdPath, body: ApiKeyRotate) -> Response:
    written = key_rotation.rotate(current_actor(), path.id, body, if_match())
    return created(written.view, written.receipt, "api-keys")


@blueprint.post("/api-keys/<uuid:id>/reveal", summary="Show a successor, once", responses={200: ApiKeyMade})
@endpoint
def reveal(path: IdPath) -> Response:
    written = key_rotation.reveal(current_actor(), path.id, if_match())
    return wrote(written.view, written.receipt)
