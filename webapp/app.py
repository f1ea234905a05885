"""The application factory: settings checked, stores bound, doors hung.

In:    Settings, or the environment.
Out:   a Flask application (OpenAPI) with the JSON API under /api/v1 and the console at /.
Laws:  1. A wrong setting ends the start with one line that names it. 2. Nothing is connected to here: the stores may
       come up later. 3. One line registers one door.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Final

from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI

from contracts.bounds import API_BODY_BYTES_MAX
from webapp import api, commands, console, extensions, ops
from webapp.api.blueprint import ProblemModel
from webapp.auth import console as console_door
from webapp.auth.verifier import Verifier
from webapp.settings import Settings, SettingsError, from_environment

ROOT: Final = Path(__file__).resolve().parent.parent
VERSION: Final = "1.0.0"
_APP_LOAD_ERROR: Final = 4
"""gunicorn's own status for it: the arbiter ends instead of starting workers for ever."""


def create_app(settings: Settings | None = None) -> OpenAPI:
    """Make the application. Without settings, reads the environment and exits with one line when it is wrong."""
    if settings is None:
        try:
            settings = from_environment()
        except SettingsError as error:
            line = f"vantageedge: {error}"
            print(line, file=sys.stderr, flush=True)
            ended = SystemExit(line)
            ended.code = _APP_LOAD_ERROR
            raise ended from None
    app = OpenAPI(
        "vantageedge",
        info=Info(title="VantageEdge", version=VERSION, description=api.DESCRIPTION),
        security_schemes=api.SECURITY_SCHEMES,
        doc_ui=False,
        validation_error_model=ProblemModel,
        root_path=str(ROOT),
        template_folder=str(ROOT / "templates"),
        static_folder=str(ROOT / "static"),
    )
    _configure(app, settings)
    extensions.init_app(app, settings)
    app.extensions["vantageedge.verifier"] = Verifier(settings.clerk, app.extensions["vantageedge.redis"])
    ops.init_app(app, settings)
    console_door.register(app)
    api.register(app)
    console.register(app)
    commands.register(app)
    return app


def _configure(app: OpenAPI, settings: Settings) -> None:
    secure = settings.console_url.startswith("https://")
    app.config.update(
        SECRET_KEY=settings.secret_key,
        MAX_CONTENT_LENGTH=API_BODY_BYTES_MAX,
        MAX_FORM_PARTS=1_000,
        # Ours holds toasts between two pages and nothing else; who is there, Clerk's cookie says.
        SESSION_COOKIE_NAME="__Host-ve" if secure else "ve",
        SESSION_COOKIE_SECURE=secure,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        PERMANENT_SESSION_LIFETIME=timedelta(hours=1),
    )
    app.json.sort_keys = False  # type: ignore[attr-defined]
