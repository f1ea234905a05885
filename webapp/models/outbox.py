"""Table `outbox`: what PostgreSQL has decided and Redis must still be told, in order per tenant.

Laws:  1. A row names what changed, never its new value: the publisher reads the truth when it publishes, so publishing
       twice or late does no harm. 2. No foreign key to tenants: the removal of a tenant must be published too.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Identity, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from webapp.models.base import Base


class OutboxEntry(Base):
    __tablename__ = "outbox"
    __table_args__ = (
        CheckConstraint("kind IN ('config', 'key', 'removed')", name="kind"),
        Index("outbox_pending_idx", "tenant_id", "id", postgresql_where=text("published_at IS NULL")),
    )

    id: Mapped[int] = mapped_column(BigInteger(), Identity(always=True), primary_key=True)
    tenant_id: Mapped[UUID]
    kind: Mapped[str]
    payload: Mapped[dict[str, Any]]
    """config: {version, hosts}; key: {digests}; removed: {hosts}."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    published_at: Mapped[datetime | None]
    stream_id: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    last_error: Mapped[str | None]
