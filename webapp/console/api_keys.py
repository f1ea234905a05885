"""The pages of API keys: list, new, import, revoke; and the one moment in which a key is seen.

In:    forms and the path.
Out:   pages; writes through services.api_keys.
Laws:  1. A new key is in the answer to the form that made it and nowhere else: in no URL, cookie, toast or log.
       2. The same form sent twice (a reload) makes no second key and shows nothing again. 3. Revoking asks for the
       name.
Not here: the key's format (contracts.apikey), who may write (services).
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final
from uuid import UUID

from flask import Response, request, session, url_for
from pydantic import SecretStr
from werkzeug.wrappers import Response as AnyResponse

from webapp.console.access import page_asked_for, reads, visit, writes
from webapp.console.curl import curl_for_route
from webapp.console.forms import Form, without_nones
from webapp.console.rendering import go, page, wants_fragment
from webapp.console.route_form import in_match_order
from webapp.console.writing import live_note, submitted
from webapp.schemas.access import accepted
from webapp.schemas.api_key import ApiKeyImport, ApiKeyNew, ApiKeyQuery, ApiKeyView
from webapp.schemas.route import RouteQuery
from webapp.services import api_keys, routes
from webapp.services.actor import require_admin

_CONTROLS: Final = {"name": "name", "scopes": "scopes", "expires_at": "expires_on", "key": "key", "mode": "mode"}
_FORMS_KEPT: Final = 20


@reads("/keys", "api_keys_index")
def index() -> Response:
    found = api_keys.page(visit().actor, page_asked_for(ApiKeyQuery))
    return page("console/api_keys/index.html", items=found.items, next_cursor=found.next_cursor)


@reads("/keys/new", "api_keys_new")
def new() -> Response:
    require_admin(visit().actor)
    return _editor(Form({"mode": "live", "expires_in": "never", "form_id": secrets.token_urlsafe(12)}))


@writes("/keys/new", "api_keys_create")
def create() -> AnyResponse:
    form = Form(request.form)
    if _was_sent(form):
        return go(_list(), "This key was made already", "Its secret is shown only once.", "bad")
    written = submitted(
        form,
        _CONTROLS,
        lambda: ApiKeyNew.model_validate(without_nones({**_payload(form), "mode": form.value("mode") or "live"})),
        lambda key: api_keys.create(visit().actor, key),
    )
    if written is None:
        return _editor(form, 422)
    _remember(form)
    answer = page(
        "console/api_keys/made.html",
        block="secret",
        key=written.view,
        secret=written.view.key,
        curl=_curl(written.view.key),
        live_note=live_note(written.receipt),
    )
    if wants_fragment():  # into the dialog, over the form that stays behind it
        answer.headers["HX-Retarget"] = "#dialog"
        answer.headers["HX-Reswap"] = "innerHTML"
    return answer


@reads("/keys/import", "api_keys_import")
def ask_import() -> Response:
    require_admin(visit().actor)
    return _editor(Form({"expires_in": "never"}), importing=True)


@writes("/keys/import", "api_keys_take_over")
def take_over() -> AnyResponse:
    form = Form({name: request.form.getlist(name) for name in request.form if name != "key"})
    secret = SecretStr(request.form.get("key", "").strip())
    written = submitted(
        form,
        _CONTROLS,
        lambda: ApiKeyImport.model_validate(without_nones({**_payload(form), "key": secret})),
        lambda key: api_keys.import_(visit().actor, key),
    )
    if written is None:
        return _editor(form, 422, importing=True)
    return go(_list(), f"Key {written.view.name} imported", live_note(written.receipt))


@reads("/keys/<uuid:key_id>/revoke", "api_keys_revoke")
def ask_revoke(key_id: UUID) -> Response:
    require_admin(visit().actor)
    return _ask(api_keys.get(visit().actor, key_id), Form())


@writes("/keys/<uuid:key_id>/revoke", "api_keys_end")
def revoke(key_id: UUID) -> AnyResponse:
    require_admin(visit().actor)
    form = Form(request.form)
    key = api_keys.get(visit().actor, key_id)
    if form.value("typed_name").strip() != key.name:
        form.refuse("typed_name", "This is not the key's name")
        return _ask(key, form, 422)
    written = submitted(form, {}, lambda: None, lambda _: api_keys.revoke(visit().actor, key_id))
    if written is None:
        return _ask(key, form, 422)
    return go(_list(), f"Key {key.name} revoked", live_note(written.receipt))


def _ask(key: ApiKeyView, form: Form, status: int = 200) -> Response:
    return page("console/api_keys/revoke.html", block="ask", status=status, key=key, form=form)


def _editor(form: Form, status: int = 200, importing: bool = False) -> Response:
    block = "form" if status != 200 else None
    return page("console/api_keys/edit.html", block=block, status=status, form=form, importing=importing)


def _list() -> str:
    return url_for("console.api_keys_index", subdomain=visit().tenant.subdomain)


def _payload(form: Form) -> dict[str, Any]:
    return {"name": form.value("name"), "scopes": form.words("scopes"), "expires_at": _expires_at(form)}


def _expires_at(form: Form) -> datetime | None:
    wanted = form.value("expires_in")
    if wanted.isascii() and wanted.isdigit() and len(wanted) <= 4:
        return datetime.now(UTC) + timedelta(days=int(wanted))
    if wanted != "date":
        return None
    try:
        day = datetime.strptime(form.value("expires_on"), "%Y-%m-%d").date()  # noqa: DTZ007 - a day has no zone
    except ValueError:
        form.refuse("expires_on", "Give the day on which it expires")
        return None
    return datetime.combine(day, time(23, 59, 59), UTC)


def _curl(key: str) -> str:
    """Give a call with the key, to the first route that asks for one."""
    edge_url = visit().edge_url
    for route in in_match_order(routes.page(visit().actor, RouteQuery(limit=200)).items):
        if route.enabled and "apikey" in accepted(route.auth_mode, route.accept):
            return curl_for_route(edge_url, route, key)
    return f"curl -i {edge_url}/ -H 'X-API-Key: {key}'"


def _was_sent(form: Form) -> bool:
    return form.value("form_id") in session.get("sent_forms", ())


def _remember(form: Form) -> None:
    """Keep the form's random id, never the key, in the signed cookie."""
    if form.text("form_id"):
        session["sent_forms"] = [*session.get("sent_forms", ()), form.value("form_id")[:40]][-_FORMS_KEPT:]
