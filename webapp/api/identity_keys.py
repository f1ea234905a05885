"""/identity-keys: what the gateway signs identity tokens with, and the change of keys."""

from __future__ import annotations

from werkzeug.wrappers import Response

from webapp.api.blueprint import endpoint, noun, show, wrote
from webapp.auth.bearer import current_actor
from webapp.schemas.identity_key import IdentityKeys, IdentityKeyView, Rotation
from webapp.services import identity_keys

blueprint = noun("identity-keys", "Keys of the identity tokens that origins are sent.")


@blueprint.get("/identity-keys", summary="List keys", responses={200: IdentityKeys})
@endpoint
def index() -> Response:
    return show(identity_keys.index(current_actor()))


@blueprint.post("/identity-keys/rotate", summary="Change the signing key", responses={201: IdentityKeyView})
@endpoint
def rotate(body: Rotation) -> Response:
    written = identity_keys.rotate(current_actor(), body)
    return wrote(written.view, written.receipt, 201)
