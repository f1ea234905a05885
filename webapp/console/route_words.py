"""What a route does, in plain words, in the order in which the edge does it.

In:    a route in the API's shape (complete or half typed), and the name of its origin.
Out:   five sentences: match, auth, limits, cache, origin.
Laws:  1. Never raises: a half-typed value is left out or shown as typed. 2. Says nothing the edge does not do.
Not here: rules (webapp.schemas), markup.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from webapp.console.rendering import counted, duration
from webapp.schemas.limit_words import in_short, policies_of, summary

_KEYED_BY = {
    "path": "the path alone, whatever the query says",
    "path+query": "path and query",
    "path+query+headers": "path, query and chosen headers",
}
_PRESENTED = {
    "apikey_required": "one of your API keys",
    "jwt_required": "the session token of a signed-in user of your organisation",
    "oauth_required": "an OAuth access token",
    "service_required": "a service's token or signature",
}
_OF_ISSUERS = {"jwt_required": "a user's token", "oauth_required": "an OAuth access token"}
_ORIGINS_NAMED_MAX = 3


class Step(NamedTuple):
    name: str
    words: str


def steps(route: Mapping[str, Any], origin_name: str | None) -> list[Step]:
    return [
        Step("Match", _match(route)),
        Step("Auth", _auth(route)),
        Step("Limits", _limits(route.get("rate_limit"))),
        Step("Cache", _cache(route)),
        Step("Origin", _origin(route, origin_name)),
    ]


def limits_in_short(rate_limit: Mapping[str, Any] | None) -> str | None:
    """Give a limit as a table's cell shows it: `100/s`, `5,000 per hour`, `3 policies`."""
    policies = policies_of(rate_limit)
    if len(policies) > 1:
        return counted(len(policies), "policy", "policies")
    return in_short(policies[0]) if policies else None


def _match(route: Mapping[str, Any]) -> str:
    pattern = str(route.get("path_pattern") or "")
    methods = [str(method) for method in route.get("methods") or ()]
    who = f"{_list(methods)} requests" if methods else "Requests of any method"
    if not pattern:
        return f"{who} to a path you have not typed yet."
    if pattern == "/*":
        return f"{who} to any path."
    if pattern.endswith("/*"):
        return f"{who} to {pattern[:-2] or '/'} and everything below it."
    return (
        f"{who} to exactly {pattern}."
        if "{" not in pattern
        else f"{who} to {pattern}, each name in braces standing for one segment."
    )


def _auth(route: Mapping[str, Any]) -> str:
    mode = route.get("auth_mode")
    if mode == "public":
        who = "Anyone may call it; no credential is asked for."
    elif mode == "any" or mode in _PRESENTED:
        kinds = [f"{kind}_required" for kind in route.get("accept") or ()] if mode == "any" else [str(mode)]
        presented = [_presented(kind, route) for kind in kinds] or ["one of several kinds of credential"]
        who = f"Callers present {_list(presented, 'or')}; others get 401."
    else:
        return "Choose who may call it."
    return f"{who}{_rights(route)}{_networks(route)}{_pages(route)}"


def _presented(kind: str, route: Mapping[str, Any]) -> str:
    if kind in _OF_ISSUERS and (issuers := route.get("issuers")):
        return f"{_OF_ISSUERS[kind]} of {counted(len(issuers), 'issuer')} of your own"
    if kind == "jwt_required" and route.get("any_user"):
        return "the session token of any signed-in user"
    return _PRESENTED.get(kind, "…")


def _rights(route: Mapping[str, Any]) -> str:
    scopes = [str(scope) for scope in route.get("required_scopes") or ()]
    roles = [str(role) for role in route.get("required_roles") or ()]
    permissions = [str(permission) for permission in route.get("required_permissions") or ()]
    all_need = f"the scope{'s' if len(scopes) > 1 else ''} {_list(scopes)}" if scopes else ""
    users_need = [f"the role {_list(roles, 'or')}"] if roles else []
    if permissions:
        users_need.append(f"the permission{'s' if len(permissions) > 1 else ''} {_list(permissions)}")
    return (f" They need {all_need}; others get 403." if all_need else "") + (
        f" Users need {_list(users_need)}; others get 403." if users_need else ""
    )


def _networks(route: Mapping[str, Any]) -> str:
    rules = route.get("addresses") or {}
    allowed, denied = len(rules.get("allow") or ()), len(rules.get("deny") or ())
    only = f" Only clients from {counted(allowed, 'network')} may call it." if allowed else ""
    return only + (f" Clients from {counted(denied, 'network')} get 403." if denied else "")


def _pages(route: Mapping[str, Any]) -> str:
    origins = [str(origin) for origin in (route.get("cors") or {}).get("allow_origins") or ()]
    if not origins:
        return ""
    if origins == ["*"]:
        return " Pages of any site may call it from a browser."
    named = _list(origins) if len(origins) <= _ORIGINS_NAMED_MAX else counted(len(origins), "site")
    return f" Pages of {named} may call it from a browser."


def _limits(rate_limit: Mapping[str, Any] | None) -> str:
    return " ".join(summary(rate_limit)) or "No limit on how often it is called."


def _cache(route: Mapping[str, Any]) -> str:
    policy = route.get("cache_policy") or {}
    if not policy.get("enabled"):
        return "Answers are not stored; each request reaches the origin."
    keyed = _KEYED_BY.get(str(policy.get("cache_key_pattern") or "path+query"), "path and query")
    ttl = policy.get("ttl_seconds")
    length = duration(ttl) if isinstance(ttl, int | float) and ttl > 0 else "a time you have not typed yet"
    shared = ""
    if route.get("auth_mode") != "public":
        shared = " All callers share one copy." if policy.get("shared") else " Each caller has a copy of their own."
    return f"Answers are stored for {length}, told apart by {keyed}.{shared}"


def _origin(route: Mapping[str, Any], origin_name: str | None) -> str:
    if not origin_name:
        return "Choose where the request goes."
    prefix = (route.get("rewrite") or {}).get("strip_prefix")
    stripped = f" without the leading {prefix}" if prefix else ""
    credential = " The caller's credential goes along." if route.get("forward_credential") else ""
    return f"The request goes to {origin_name}{stripped}.{credential}"


def _list(words: list[str], last: str = "and") -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"
