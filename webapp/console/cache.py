"""The page of the cache: which routes store answers, and purging with its receipt.

In:    a form: a route, a URL, or everything.
Out:   the page with the receipt in it; purges through services.cache.
Not here: carrying a purge out (worker.tasks.cache).
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from flask import Response, request

from webapp.console.access import reads, visit, writes
from webapp.console.forms import Form
from webapp.console.rendering import exact, page
from webapp.console.routes import all_routes
from webapp.console.writing import submitted
from webapp.schemas.route import RouteView
from webapp.services import cache

_CONTROLS: Final = {"route_id": "route_id", "url": "url"}


@reads("/cache", "cache_index")
def index() -> Response:
    return _page(Form({"purge": "route"}))


@writes("/cache", "cache_purge")
def purge() -> Response:
    form = Form(request.form)
    receipt = submitted(form, _CONTROLS, lambda: _wanted(form), lambda wanted: cache.purge(visit().actor, wanted))
    return _page(form, 422 if receipt is None else 200, receipt)


def _wanted(form: Form) -> cache.PurgeNew:
    what = form.value("purge")
    if what == "route":
        if not form.text("route_id"):
            form.refuse("route_id", "Choose a route that stores answers")
            return cache.PurgeNew()
        return cache.PurgeNew.model_validate({"route_id": form.value("route_id")})
    if what == "url":
        if not path_and_query(form.value("url")).startswith("/"):
            form.refuse("url", "must be a path like /api/posts/1, or a whole URL")
            return cache.PurgeNew()
        return cache.PurgeNew.model_validate({"url": path_and_query(form.value("url"))})
    if what != "all":
        form.refuse("purge", "Choose what to purge")
    return cache.PurgeNew()


def path_and_query(text: str) -> str:
    """Take a whole URL as well as a path: what is purged is the path and query of this tenant."""
    try:
        parts = urlsplit(text.strip())
    except ValueError:
        return text
    if parts.scheme not in ("http", "https"):
        return text.strip()
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _page(form: Form, status: int = 200, receipt: cache.PurgeReceipt | None = None) -> Response:
    cached = [route for route in all_routes() if route.cache_policy and route.cache_policy.enabled]
    return page(
        "console/cache/index.html",
        block="form" if request.method == "POST" else None,
        status=status,
        form=form,
        cached=cached,
        route_options=[(str(route.id), route.path_pattern) for route in cached] or [("", "No route stores answers")],
        receipt=None if receipt is None else _receipt(receipt, cached),
    )


def _receipt(receipt: cache.PurgeReceipt, cached: list[RouteView]) -> dict[str, Any]:
    if receipt.url is not None:
        what = f"Purging {receipt.url}"
    elif receipt.route_id is not None:
        pattern = next((route.path_pattern for route in cached if route.id == receipt.route_id), str(receipt.route_id))
        what = f"Purging all answers of {pattern}"
    else:
        what = "Purging everything this tenant has stored"
    return {"what": what, "facts": [("Asked for", exact(receipt.requested_at)), ("Receipt", str(receipt.id))]}
