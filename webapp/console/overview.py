"""The first page of a tenant: what is configured, whether it is in force, what changed last, and what to do next.

In:    the tenant.
Out:   the page.
Laws:  1. Redis away makes the page say so; it never makes the page fail.
Not here: traffic figures.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from flask import Response, url_for

from webapp.console.access import reads, visit
from webapp.console.curl import curl_for_route
from webapp.console.origins import health_of
from webapp.console.rendering import counted, page
from webapp.console.routes import all_origins, all_routes
from webapp.schemas.api_key import ApiKeyQuery, ApiKeyView
from webapp.schemas.origin import OriginView
from webapp.schemas.route import RouteView
from webapp.schemas.tenant import TenantView
from webapp.services import api_keys, audit, people, propagation
from webapp.services.errors import StoreUnavailable

_CHANGES_SHOWN: Final = 8
_ORIGINS_SHOWN: Final = 6
_KEYS_COUNTED_MAX: Final = 200
_NOUNS: Final = {"api_key": "API key"}
_VIA: Final = {"api": "the API", "console": "the console", "worker": "a job", "cli": "a command"}


class Live(NamedTuple):
    tone: str | None
    words: str


def live_state(tenant: TenantView) -> Live:
    """Say how far the newest configuration has come."""
    version = f"Config v{tenant.config_version}"
    try:
        edges = propagation.current()
    except StoreUnavailable:
        return Live("warn", f"{version}; the edges cannot be seen from here right now")
    if not edges:
        return Live("warn", f"{version}; no edge is running")
    current = sum(edge.is_current for edge in edges)
    tone = "good" if current == len(edges) else "warn"
    return Live(tone, f"{version} live on {current} of {len(edges)} edges")


@reads("/", "overview")
def index() -> Response:
    origins, routes = all_origins(), all_routes()
    keys = api_keys.page(visit().actor, ApiKeyQuery(limit=_KEYS_COUNTED_MAX))
    shown = next((route for route in routes if route.enabled), None)
    curl = curl_for_route(visit().edge_url, shown) if shown else f"curl -i {visit().edge_url}/"
    return page(
        "console/overview/index.html",
        live=live_state(visit().tenant),
        tiles=_tiles(origins, routes, keys.items, keys.next_cursor is not None),
        checklist=_checklist(origins, routes),
        curl=curl,
        curl_note=None if shown else "Until there is a route, the answer is 404: no route matches this path.",
        origins=[(origin, health_of(origin)) for origin in origins[:_ORIGINS_SHOWN]],
        changes=_changes(),
    )


def _tiles(
    origins: list[OriginView], routes: list[RouteView], keys: tuple[ApiKeyView, ...], more_keys: bool
) -> list[dict[str, str]]:
    down = sum(health_of(origin).tone == "bad" for origin in origins)
    off = sum(not route.enabled for route in routes)
    active = sum(key.state == "active" for key in keys)
    cached = sum(bool(route.cache_policy and route.cache_policy.enabled) for route in routes)
    limited = sum(route.rate_limit is not None for route in routes)
    return [
        _tile(
            "Origins", "server", "origins_index", str(len(origins)), f"{down} down" if down else "none known to be down"
        ),
        _tile("Routes", "route", "routes_index", str(len(routes)), f"{limited} limited, {off} off"),
        _tile("API keys", "key-round", "api_keys_index", f"{active}{'+' if more_keys else ''}", "active"),
        _tile("Cached routes", "database-zap", "cache_index", str(cached), f"of {counted(len(routes), 'route')}"),
    ]


def _tile(label: str, glyph: str, endpoint: str, figure: str, note: str) -> dict[str, str]:
    href = url_for(f"console.{endpoint}", subdomain=visit().tenant.subdomain)
    return {"label": label, "glyph": glyph, "href": href, "figure": figure, "note": note}


def _checklist(origins: list[OriginView], routes: list[RouteView]) -> list[dict[str, Any]]:
    subdomain = visit().tenant.subdomain
    new_origin = url_for("console.origins_new", subdomain=subdomain)
    new_route = url_for("console.routes_new", subdomain=subdomain)
    items: list[dict[str, Any]] = [
        {"label": "Create your gateway", "note": visit().edge_url, "done": True, "href": None, "action": ""},
        {
            "label": "Add an origin",
            "note": "The service your requests go to.",
            "done": bool(origins),
            "href": new_origin,
            "action": "New origin",
        },
        {
            "label": "Add a route",
            "note": "Which paths go there, and who may call them. Then the curl line below works.",
            "done": any(route.enabled for route in routes),
            "href": new_route if origins else None,
            "action": "New route",
        },
    ]
    first = next((item for item in items if not item["done"]), None)
    return [{**item, "first": item is first} for item in items]


def _changes() -> list[dict[str, Any]]:
    names = people.names(visit().actor)
    found = audit.page(visit().actor, audit.HistoryQuery(limit=_CHANGES_SHOWN))
    return [
        {
            "what": _action(entry.action),
            "name": _name(entry.after or entry.before),
            "who": names.get(entry.clerk_user_id or "", entry.clerk_user_id or "The system"),
            "via": _VIA.get(entry.via, entry.via),
            "at": entry.at,
            "config_version": entry.config_version,
        }
        for entry in found.items
    ]


def _action(action: str) -> str:
    noun, _, verb = action.partition(".")
    words = f"{_NOUNS.get(noun, noun.replace('_', ' '))} {verb}"
    return words[:1].upper() + words[1:]


def _name(thing: dict[str, Any] | None) -> str | None:
    for member in ("path_pattern", "name", "url"):
        value = (thing or {}).get(member)
        if isinstance(value, str):
            return value
    return None
