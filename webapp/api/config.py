"""/config/versions and /audit-log: what the configuration was, and who changed what."""

from __future__ import annotations

from werkzeug.wrappers import Response

from webapp.api.blueprint import endpoint, noun, show
from webapp.auth.bearer import current_actor
from webapp.services import audit

blueprint = noun("config", "Versions of the configuration, and the audit log.")


@blueprint.get("/config/versions", summary="List versions, newest first", responses={200: audit.VersionPage})
@endpoint
def versions(query: audit.HistoryQuery) -> Response:
    return show(audit.versions(current_actor(), query))


@blueprint.get("/audit-log", summary="List changes, newest first", responses={200: audit.AuditPage})
@endpoint
def audit_log(query: audit.HistoryQuery) -> Response:
    return show(audit.page(current_actor(), query))
