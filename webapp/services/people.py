"""People as members of a tenant, for display beside what they did.

Laws:  1. A name is what a token once said, never proof of anything.
"""

from __future__ import annotations

from sqlalchemy import select

from webapp.extensions import tenant_scope
from webapp.models import User
from webapp.services.actor import Actor

_NAMED_MAX = 1_000


def names(actor: Actor) -> dict[str, str]:
    """Give what to call each member, by Clerk user id: their e-mail address, or the id where none is known."""
    with tenant_scope(actor.tenant_id) as session:
        rows = session.execute(
            select(User.clerk_user_id, User.email)
            .where(User.tenant_id == actor.tenant_id)
            .order_by(User.last_seen_at.desc().nulls_last())
            .limit(_NAMED_MAX)
        ).all()
        return {row.clerk_user_id: row.email or row.clerk_user_id for row in rows}
