"""Pages for people: choose who you are, choose an organisation, sign out; and the browser script at its real address.

In:    redirect_url, the browser's client.
Out:   HTML without a line of script, redirects to loopback.
Laws:  1. No inline script or style. 2. State changes only by POST with our own Origin.
Not here: the JSON endpoints (frontend_api).
"""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, Response, redirect, render_template, request
from werkzeug.wrappers import Response as AnyResponse

from devstack.clerk import people
from devstack.clerk.frontend_api import remember, with_query
from devstack.clerk.instance import current_client, instance, origin_of, refuse

_HERE = Path(__file__).parent
blueprint = Blueprint("pages", __name__, template_folder="pages")


@blueprint.get("/npm/@clerk/clerk-js@<version>/dist/clerk.browser.js")
def browser_script(version: str) -> Response:
    script = (_HERE / "pages" / "clerk.browser.js").read_text()
    here = instance()
    for name, value in (("FAPI_URL", here.issuer), ("PUBLISHABLE_KEY", here.publishable_key)):
        script = script.replace(f"%{name}%", value)
    script = script.replace("%COOKIE_SUFFIX%", here.cookie_suffix)
    return _asset(script, "text/javascript")


@blueprint.get("/npm/@clerk/ui@<version>/dist/ui.browser.js")
def ui_script(version: str) -> Response:
    return _asset("window.__internal_ClerkUICtor = class {};\n", "text/javascript")


@blueprint.get("/pages.css")
def style() -> Response:
    return _asset((_HERE / "pages" / "pages.css").read_text(), "text/css")


@blueprint.get("/")
def home() -> AnyResponse:
    return redirect("/sign-in", 303)


@blueprint.get("/sign-in")
@blueprint.get("/sign-up")
@blueprint.get("/select-organization")
@blueprint.get("/create-organization")
def sign_in_page() -> str:
    client = current_client()
    active = instance().registry.active_sessions(client) if client else []
    cast = [
        {
            "person": person,
            "signed_in": any(session.user_id == person.user_id for session in active),
            "roles": [
                (held.role.removeprefix("org:"), people.ORGANISATIONS[held.org_id].name)
                for held in people.memberships_of(person.user_id)
            ],
        }
        for person in people.PEOPLE.values()
    ]
    return render_template("sign_in.html", cast=cast, redirect_url=_redirect_url(), dev_browser=_dev_browser())


@blueprint.post("/sign-in")
def sign_in() -> AnyResponse:
    if request.headers.get("Origin") not in (None, instance().issuer):
        return refuse(403, "origin_invalid", "this form is sent from its own page only")
    person = people.PEOPLE.get(request.form.get("person", ""))
    if person is None:
        return refuse(422, "form_identifier_not_found", "Couldn't find your account.")
    client = current_client() or instance().registry.new_client()
    instance().registry.sign_in(client, person)
    response = redirect(with_query(_redirect_url(), {"__clerk_db_jwt": client.secret}), 303)
    remember(response, client)
    return response


@blueprint.post("/sign-out")
def sign_out() -> AnyResponse:
    if request.headers.get("Origin") not in (None, instance().issuer):
        return refuse(403, "origin_invalid", "this form is sent from its own page only")
    client = current_client()
    for session in instance().registry.active_sessions(client) if client else ():
        instance().registry.end(session, "removed")
    return redirect("/sign-in", 303)


def _redirect_url() -> str:
    wanted = request.values.get("redirect_url", "")
    return wanted if origin_of(wanted) else instance().console_url


def _dev_browser() -> str:
    return request.args.get("__clerk_db_jwt", "")


def _asset(text: str, kind: str) -> Response:
    response = Response(text, content_type=f"{kind}; charset=utf-8")
    response.headers["Cache-Control"] = "no-cache"
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response
