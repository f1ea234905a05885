"""The pages outside a tenant: the way in, the way out, and the first step of an organisation.

In:    g.caller and g.tenant, as webapp.auth.console found them; `next`, a path of ours.
Out:   /, /sign-in, /sign-out, /welcome, /session.
Laws:  1. `next` leads nowhere but to a path of this console.
Not here: signing in itself, which is Clerk's.
"""

from __future__ import annotations

from urllib.parse import urlencode

from flask import Response, g, redirect, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.wrappers import Response as AnyResponse

from webapp.auth import console as auth
from webapp.console.access import blueprint
from webapp.console.forms import Form
from webapp.console.rendering import go, page
from webapp.console.writing import live_note, submitted
from webapp.extensions import current_settings
from webapp.schemas.tenant import TenantNew
from webapp.services import tenants
from webapp.services.actor import may_change


@blueprint.get("/")
@auth.signed_in_anywhere
def home() -> ResponseReturnValue:
    if g.tenant is not None:
        return redirect(url_for("console.overview", subdomain=g.tenant.subdomain), 303)
    if g.caller is not None:
        return redirect(url_for("console.welcome"), 303)
    return page("console/onboarding/organization.html", organizations_url=_clerk_page("select-organization"))


@blueprint.get("/sign-in")
def sign_in() -> Response:
    next_path = auth.safe_next(request.args.get("next", "/"))
    return page(
        "console/session/sign_in.html",
        next_url=next_path,
        sign_in_url=auth.clerk_sign_in_url(next_path),
        signed_out="signed_out" in request.args,
    )


@blueprint.post("/sign-out")
@auth.signed_in_anywhere
def sign_out() -> Response:
    return auth.sign_out(url_for("console.sign_in", signed_out=""))


@blueprint.get("/session")
@auth.signed_in_anywhere
def renewed() -> Response:
    """Say that the session is fresh: being answered at all is what renews it."""
    return page("console/session/renewed.html")


@blueprint.get("/welcome")
@auth.signed_in_anywhere
def welcome() -> ResponseReturnValue:
    if g.caller is None or g.tenant is not None:
        return redirect("/", 303)
    if not may_change(g.caller):
        return page("console/onboarding/wait.html")
    return page("console/onboarding/new.html", form=Form())


@blueprint.post("/welcome")
@auth.signed_in_anywhere
def create_tenant() -> AnyResponse:
    if g.caller is None or g.tenant is not None:
        return go("/")
    form = Form(request.form)
    written = submitted(
        form,
        {"name": "name", "subdomain": "subdomain"},
        lambda: TenantNew(name=form.value("name"), subdomain=form.value("subdomain"), clerk_org_id=g.caller.org_id),
        lambda tenant: tenants.create(g.caller, tenant),
    )
    if written is None:
        return page("console/onboarding/new.html", block="form", status=422, form=form)
    home_url = url_for("console.overview", subdomain=written.view.subdomain)
    return go(home_url, f"{written.view.name} has a gateway", live_note(written.receipt))


def _clerk_page(name: str) -> str:
    signed_in = auth.clerk_sign_in_url("/").partition("/sign-in?")[0]
    return f"{signed_in}/{name}?{urlencode({'redirect_url': current_settings().console_url + '/'})}"
