"""Between the route editor's controls and the API's shape of a route, both ways.

In:    a Form, or a RouteView.
Out:   a payload for webapp.schemas.route, or the values of the controls; routes in match order.
Laws:  1. A payload read back from a filled form equals the route it was filled from. 2. What the form cannot show
       (several policies, most of who may call) it keeps as it is, unless the person chooses another kind of limit or an
       auth mode that has no use for it.
Not here: rules (webapp.schemas.route).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from contracts.bounds import BODY_BYTES_MAX, BODY_BYTES_MAX_DEFAULT, CACHE_TTL_S_DEFAULT
from contracts.patterns import parse_pattern
from webapp.console.forms import Form
from webapp.schemas.access import accepted
from webapp.schemas.limits import SCOPES, Policy, RateLimit
from webapp.schemas.route import RouteView

_MIB: Final = 1024 * 1024
CONTROLS: Final = {
    "name": "name",
    "path_pattern": "path_pattern",
    "methods": "methods",
    "origin_id": "origin_id",
    "auth_mode": "auth_mode",
    "priority": "priority",
    "required_scopes": "required_scopes",
    "any_user": "any_user",
    "rate_limit": "limit_kind",
    "rate_limit.requests_per_second": "requests_per_second",
    "rate_limit.burst": "burst",
    "rate_limit.policies.requests_per_second": "requests_per_second",
    "rate_limit.policies.burst": "burst",
    "rate_limit.policies.limit": "limit",
    "rate_limit.policies.window_seconds": "window_seconds",
    "rate_limit.policies.scope": "limit_scope",
    "rate_limit.policies.algorithm": "limit_kind",
    "cache_policy": "cache_enabled",
    "cache_policy.ttl_seconds": "ttl_seconds",
    "cache_policy.cache_key_pattern": "cache_key_pattern",
    "cache_policy.key_headers": "key_headers",
    "rewrite": "strip_prefix",
    "rewrite.strip_prefix": "strip_prefix",
    "body_bytes_max": "body_mib_max",
}


def in_match_order(routes: Iterable[RouteView]) -> list[RouteView]:
    """Sort as the edge does (contracts.patterns.Pattern.rank). `routes` come oldest first: age decides ties."""
    ranked = [
        (parse_pattern(route.path_pattern).rank(route.priority, position), route)
        for position, route in enumerate(routes)
    ]
    return [route for _, route in sorted(ranked, key=lambda item: item[0])]


def blank(origin_id: str) -> Form:
    return Form(
        {
            "auth_mode": "public",
            "priority": "0",
            "enabled": "on",
            "limit_kind": "none",
            "requests_per_second": "",
            "limit_scope": "route",
            "on_store_failure": "share",
            "ttl_seconds": str(CACHE_TTL_S_DEFAULT),
            "cache_key_pattern": "path+query",
            "body_mib_max": f"{BODY_BYTES_MAX_DEFAULT / _MIB:g}",
            "origin_id": origin_id,
        }
    )


def filled(route: RouteView) -> Form:
    cache = route.cache_policy
    values: dict[str, str | list[str]] = {
        **_limit_values(route.rate_limit),
        "etag": str(route.row_version),
        "name": route.name or "",
        "path_pattern": route.path_pattern,
        "methods": list(route.methods),
        "origin_id": str(route.origin_id),
        "auth_mode": route.auth_mode,
        "priority": str(route.priority),
        "required_scopes": " ".join(route.required_scopes),
        "strip_prefix": (route.rewrite.strip_prefix if route.rewrite else None) or "",
        "ttl_seconds": str(cache.ttl_seconds if cache else CACHE_TTL_S_DEFAULT),
        "cache_key_pattern": cache.cache_key_pattern if cache else "path+query",
        "key_headers": " ".join(cache.key_headers) if cache else "",
        "body_mib_max": _mib(route.body_bytes_max),
    }
    switches = {
        "enabled": route.enabled,
        "any_user": route.any_user,
        "forward_credential": route.forward_credential,
        "preserve_host": route.preserve_host,
        "cache_enabled": cache is not None and cache.enabled,
        "cache_shared": cache is not None and cache.shared,
    }
    return Form(values | {name: "on" for name, is_on in switches.items() if is_on})


def is_beyond_form(rate_limit: RateLimit | None) -> bool:
    """Say whether a limit has more to it than the form shows."""
    if rate_limit is None or rate_limit.policies is None:
        return False
    policies = rate_limit.policies
    return (
        len(policies) != 1
        or policies[0].mode != "enforce"
        or len(policies[0].scope) != 1
        or policies[0].scope[0] not in SCOPES
        or policies[0].cost is not None
        or policies[0].algorithm == "concurrency"
        or policies[0].name != "default"
    )


def payload(form: Form, route: RouteView | None = None) -> dict[str, Any]:
    """Give the form in the API's shape; `route` is what is being edited, of which unshown parts are kept."""
    auth_mode = form.value("auth_mode")
    kinds = accepted(auth_mode, route.accept if route is not None else ())
    authenticated = auth_mode != "public"
    mib = form.number("body_mib_max", BODY_BYTES_MAX_DEFAULT / _MIB)
    if mib is not None:  # times _MIB a float need not be finite
        mib = max(-1.0, min(mib, float(BODY_BYTES_MAX)))
    prefix = form.text("strip_prefix")
    return {
        "name": form.text("name"),
        "path_pattern": form.value("path_pattern"),
        "methods": form.values_of("methods"),
        "origin_id": form.value("origin_id"),
        "auth_mode": auth_mode,
        "priority": form.whole("priority", 0),
        "enabled": form.checked("enabled"),
        "required_scopes": form.words("required_scopes") if authenticated else [],
        "any_user": bool(kinds & {"jwt", "oauth"}) and form.checked("any_user"),
        "forward_credential": authenticated and form.checked("forward_credential"),
        "preserve_host": form.checked("preserve_host"),
        "body_bytes_max": BODY_BYTES_MAX_DEFAULT if mib is None else round(mib * _MIB),
        "rate_limit": _rate_limit(form, route),
        "cache_policy": _cache_policy(form),
        "rewrite": {"strip_prefix": prefix} if prefix else None,
        **(_unshown(route, auth_mode, kinds) if route is not None else {}),
    }


def _unshown(route: RouteView, auth_mode: str, kinds: frozenset[str]) -> dict[str, Any]:
    """Give what the form has no control for: as the route has it, or nothing where the chosen mode does not read it."""
    return {
        "accept": route.accept if auth_mode == "any" else (),
        "issuers": route.issuers if kinds & {"jwt", "oauth"} else (),
        "required_roles": route.required_roles if "jwt" in kinds else (),
        "required_permissions": route.required_permissions if "jwt" in kinds else (),
        "cors": route.cors.model_dump() if route.cors is not None else None,
        "addresses": route.addresses.model_dump() if route.addresses is not None else None,
        "identity_token": route.identity_token,
    }


def _limit_values(rate_limit: RateLimit | None) -> dict[str, str]:
    values = {"limit_kind": "none", "limit_scope": "route", "on_store_failure": "share"}
    if rate_limit is None:
        return values
    if is_beyond_form(rate_limit):
        return values | {"limit_kind": "keep"}
    policy = rate_limit.all_policies[0]
    return values | {
        "limit_kind": policy.algorithm,
        "limit_scope": policy.scope[0],
        "on_store_failure": policy.on_store_failure,
        "requests_per_second": _plain(policy.requests_per_second),
        "burst": _plain(policy.burst),
        "limit": _plain(policy.limit),
        "window_seconds": _plain(policy.window_seconds),
    }


def _rate_limit(form: Form, route: RouteView | None) -> dict[str, Any] | None:
    kind = form.value("limit_kind")
    if kind == "keep" and route is not None and route.rate_limit is not None:
        return route.rate_limit.model_dump(exclude_none=True)
    if kind not in ("token_bucket", "sliding_window"):
        return None
    policy: dict[str, Any] = {"algorithm": kind}
    if kind == "token_bucket":
        policy |= {"requests_per_second": _needed(form, "requests_per_second"), "burst": form.whole("burst")}
    else:
        policy |= {
            "limit": _needed(form, "limit", whole=True),
            "window_seconds": _needed(form, "window_seconds", whole=True),
        }
    policy = {name: value for name, value in policy.items() if value is not None}
    default = Policy.model_fields
    extra = {
        "scope": [form.value("limit_scope") or "route"],
        "on_store_failure": form.value("on_store_failure") or "share",
    }
    if (
        kind == "token_bucket"
        and tuple(extra["scope"]) == default["scope"].default
        and extra["on_store_failure"] == "share"
    ):
        del policy["algorithm"]
        return policy  # the short form, as the API's first example has it
    return {"policies": [policy | extra]}


def _needed(form: Form, name: str, whole: bool = False) -> float | int | None:
    if form.text(name) is None:
        form.refuse(name, "must be given for this kind of limit")
        return None
    return form.whole(name) if whole else form.number(name)


def _cache_policy(form: Form) -> dict[str, Any] | None:
    if not form.checked("cache_enabled"):
        return None
    pattern = form.value("cache_key_pattern") or "path+query"
    ttl_s = form.whole("ttl_seconds", CACHE_TTL_S_DEFAULT)
    return {
        "enabled": True,
        "ttl_seconds": CACHE_TTL_S_DEFAULT if ttl_s is None else ttl_s,
        "cache_key_pattern": pattern,
        "key_headers": form.words("key_headers") if pattern == "path+query+headers" else [],
        "shared": form.value("auth_mode") != "public" and form.checked("cache_shared"),
    }


def _plain(number: float | None) -> str:
    return "" if number is None else f"{number:.10g}"


def _mib(count: int) -> str:
    return f"{count / _MIB:.15g}"
