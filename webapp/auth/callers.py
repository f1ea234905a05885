"""From a believed session and a request to a Caller and its Actor.

Laws:  1. The tenant is the token's active organisation's; nothing in URL or body chooses it. 2. The request id is the
       client's only when it is harmless text.
"""

from __future__ import annotations

import re
from typing import Final
from uuid import uuid4

from flask import g, request

from contracts.clerk import Session
from webapp.services.actor import Caller, Via, role_of

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{8,128}")


def request_id() -> str:
    """Give this request's id, the same all along."""
    if "request_id" not in g:
        given = request.headers.get("X-Request-Id", "")
        g.request_id = given if _REQUEST_ID.fullmatch(given) else uuid4().hex
    found: str = g.request_id
    return found


def caller_of(session: Session, via: Via) -> Caller | None:
    """None when the session has no active organisation."""
    if session.org_id is None:
        return None
    return Caller(
        org_id=session.org_id,
        clerk_user_id=session.user_id,
        role=role_of(session.org_role),
        via=via,
        request_id=request_id(),
        ip=request.remote_addr,
        session_id=session.session_id,
        email=session.email,
        impersonator=session.actor,
    )
