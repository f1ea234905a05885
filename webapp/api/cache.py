"""/cache/purge: forget stored answers of a URL, a route or the whole tenant."""

from __future__ import annotations

from werkzeug.wrappers import Response

from webapp.api.blueprint import endpoint, noun, show
from webapp.auth.bearer import current_actor
from webapp.services import cache

blueprint = noun("cache", "What the edges have stored.")


@blueprint.post("/cache/purge", summary="Purge stored answers", responses={202: cache.PurgeReceipt})
@endpoint
def purge(body: cache.PurgeNew) -> Response:
    return show(cache.purge(current_actor(), body), 202)
