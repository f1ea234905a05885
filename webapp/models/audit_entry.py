"""Table `audit_log`: who did what to which thing, before and after, without secrets. Append-only.

Law: no foreign key to tenants, since the log outlives the tenant.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Identity, Index, func
from sqlalchemy.orm import Mapped, mapped_column

from webapp.models.base import Base


class AuditEntry(Base):
    __tablename__ = "audit_log"
    __table_args__ = (
        CheckConstraint("via IN ('api', 'console', 'worker', 'cli')", name="via"),
        Index("audit_log_tenant_id_id_idx", "tenant_id", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger(), Identity(always=True), primary_key=True)
    tenant_id: Mapped[UUID]
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    via: Mapped[str]
    user_id: Mapped[UUID | None]
    clerk_user_id: Mapped[str | None]
    session_id: Mapped[str | None]
    impersonator: Mapped[str | None]
    action: Mapped[str]
    """`<noun>.<verb in the past>`: route.created, api_key.revoked."""
    noun_id: Mapped[str]
    before: Mapped[dict[str, Any] | None]
    after: Mapped[dict[str, Any] | None]
    config_version: Mapped[int] = mapped_column(BigInteger())
    request_id: Mapped[str]
    ip: Mapped[str | None]
