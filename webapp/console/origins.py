"""The pages of origins: list, one, new, edit, delete.

In:    forms and the path.
Out:   pages; writes through services.origins.
Laws:  1. An origin that routes lead to is not deleted: the question names the routes instead.
Not here: rules (webapp.schemas.origin), who may write (services).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from flask import Response, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from webapp.console.access import page_asked_for, reads, visit, writes
from webapp.console.forms import Form, without_nones
from webapp.console.rendering import counted, go, page
from webapp.console.writing import live_note, submitted
from webapp.schemas.origin import OriginNew, OriginPatch, OriginQuery, OriginView, TargetView
from webapp.schemas.route import RouteQuery, RouteView
from webapp.services import origins, routes
from webapp.services.actor import require_admin
from webapp.services.errors import Conflict

_TLS_SHOWN: Final = ("ca_certificates", "server_name", "client_certificate")
_CONTROLS: Final = {
    "name": "name",
    "url": "url",
    "targets": "more_targets",
    "targets.0": "url",
    "health_check_path": "health_check_path",
    "timeout_seconds": "timeout_seconds",
    "connect_timeout_seconds": "connect_timeout_seconds",
    **{f"tls.{name}": f"tls_{name}" for name in (*_TLS_SHOWN, "client_key")},
}


class Health(NamedTuple):
    label: str
    tone: str | None
    reason: str | None = None


def health_of_target(target: TargetView) -> Health:
    if target.healthy is None:
        return Health("not checked", None)
    return Health("healthy", "good") if target.healthy else Health("down", "bad", _reason(target))


def health_of(origin: OriginView) -> Health:
    """Sum up the targets: healthy, degraded (some are down), down, or not checked."""
    failed = [target for target in origin.targets if target.healthy is False]
    if not failed:
        known = any(target.healthy is not None for target in origin.targets)
        return Health("healthy", "good") if known else Health("not checked", None)
    if len(failed) == len(origin.targets):
        return Health("down", "bad", _reason(failed[0]))
    return Health(
        "degraded", "warn", f"{len(failed)} of {counted(len(origin.targets), 'target')} down: {_reason(failed[0])}"
    )


def _reason(target: TargetView) -> str:
    return (target.health_reason or "unknown").replace("-", " ")


def routes_to(origin_id: UUID) -> tuple[RouteView, ...]:
    return routes.page(visit().actor, RouteQuery(origin_id=origin_id, limit=200)).items


@reads("/origins", "origins_index")
def index() -> Response:
    found = origins.page(visit().actor, page_asked_for(OriginQuery))
    items = [(origin, health_of(origin)) for origin in found.items]
    return page("console/origins/index.html", items=items, next_cursor=found.next_cursor)


@reads("/origins/<uuid:origin_id>", "origins_show")
def show(origin_id: UUID) -> Response:
    origin = origins.get(visit().actor, origin_id)
    expires_at = None if origin.tls is None else origin.tls.client_certificate_expires_at
    return page(
        "console/origins/show.html",
        origin=origin,
        speaks_tls=any(target.url.startswith("https:") for target in origin.targets),
        certificate_expired=expires_at is not None and expires_at <= datetime.now(UTC),
        health=health_of(origin),
        targets=[(target, health_of_target(target)) for target in origin.targets],
        routes=routes_to(origin_id),
    )


@reads("/origins/new", "origins_new")
def new() -> Response:
    require_admin(visit().actor)
    form = Form({"timeout_seconds": "30", "connect_timeout_seconds": "5"})
    return page("console/origins/edit.html", origin=None, form=form)


@writes("/origins/new", "origins_create")
def create() -> AnyResponse:
    form = Form(request.form)
    written = submitted(
        form,
        _CONTROLS,
        lambda: OriginNew.model_validate(without_nones(_payload(form))),
        lambda origin: origins.create(visit().actor, origin),
    )
    if written is None:
        return page("console/origins/edit.html", block="form", status=422, origin=None, form=form)
    return go(_address("origins_index"), f"Origin {written.view.name} created", live_note(written.receipt))


@reads("/origins/<uuid:origin_id>/edit", "origins_edit")
def edit(origin_id: UUID) -> Response:
    require_admin(visit().actor)
    origin = origins.get(visit().actor, origin_id)
    return page("console/origins/edit.html", origin=origin, form=Form(_values(origin)))


@writes("/origins/<uuid:origin_id>/edit", "origins_update")
def update(origin_id: UUID) -> AnyResponse:
    form = Form(request.form)
    origin = origins.get(visit().actor, origin_id)
    written = submitted(
        form,
        _CONTROLS,
        lambda: OriginPatch.model_validate(_payload(form)),
        lambda patch: origins.update(visit().actor, origin_id, patch, if_match=form.whole("etag")),
    )
    if written is None:
        return page("console/origins/edit.html", block="form", status=422, origin=origin, form=form)
    return go(_address("origins_show", origin_id), f"Origin {written.view.name} saved", live_note(written.receipt))


@reads("/origins/<uuid:origin_id>/delete", "origins_delete")
def ask_delete(origin_id: UUID) -> Response:
    require_admin(visit().actor)
    return _ask(origins.get(visit().actor, origin_id), Form())


@writes("/origins/<uuid:origin_id>/delete", "origins_destroy")
def destroy(origin_id: UUID) -> AnyResponse:
    form = Form(request.form)
    origin = origins.get(visit().actor, origin_id)
    try:
        receipt = submitted(
            form, {}, lambda: form.whole("etag"), lambda etag: origins.remove(visit().actor, origin_id, if_match=etag)
        )
    except Conflict:
        receipt = None
    if receipt is None:
        return _ask(origin, form, 409)
    return go(_address("origins_index"), f"Origin {origin.name} deleted", live_note(receipt))


def _ask(origin: OriginView, form: Form, status: int = 200) -> Response:
    return page(
        "console/origins/delete.html", block="ask", status=status, origin=origin, routes=routes_to(origin.id), form=form
    )


def _address(endpoint: str, origin_id: UUID | None = None) -> str:
    return url_for(f"console.{endpoint}", subdomain=visit().tenant.subdomain, origin_id=origin_id)


def _values(origin: OriginView) -> dict[str, str]:
    return {
        "etag": str(origin.row_version),
        "name": origin.name,
        "url": _target_line(origin.targets[0]),
        "more_targets": "\n".join(_target_line(target) for target in origin.targets[1:]),
        "health_check_path": origin.health_check_path or "",
        "timeout_seconds": f"{origin.timeout_seconds:g}",
        "connect_timeout_seconds": f"{origin.connect_timeout_seconds:g}",
        **{f"tls_{name}": getattr(origin.tls, name, None) or "" for name in _TLS_SHOWN},
    }


def _target_line(target: TargetView) -> str:
    return target.url if target.weight == 1 else f"{target.url} {target.weight}"


def _payload(form: Form) -> dict[str, Any]:
    """Give the form in the API's shape. The URL's field takes a weight after it, as the further targets do."""
    payload: dict[str, Any] = {
        "name": form.value("name"),
        "health_check_path": form.text("health_check_path"),
        "timeout_seconds": form.number("timeout_seconds", 30.0),
        "connect_timeout_seconds": form.number("connect_timeout_seconds", 5.0),
        "tls": {name: form.text(f"tls_{name}") for name in _TLS_SHOWN},
    }
    key = form.text("tls_client_key")
    if key is not None:  # left empty, the one that is stored stays
        payload["tls"]["client_key"] = key
    lines = [line for line in form.value("more_targets").splitlines() if line.strip()]
    payload["targets"] = _targets([form.value("url"), *lines])
    return payload


def _targets(lines: Sequence[str]) -> list[dict[str, Any]]:
    targets: list[dict[str, Any]] = []
    for line in lines:
        url, _, weight = line.strip().partition(" ")
        targets.append({"url": url, "weight": weight.strip() or 1})
    return targets
