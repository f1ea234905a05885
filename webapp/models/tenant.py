"""Table `tenants`: one organisation of Clerk, one subdomain, one line of configuration versions."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from webapp.models.base import Base, Identified, Stamped, Versioned


class Tenant(Identified, Stamped, Versioned, Base):
    """Its row is the lock under which everything of the tenant is changed."""

    __tablename__ = "tenants"
    __table_args__ = (CheckConstraint("status IN ('active', 'suspended')", name="status"),)

    name: Mapped[str]
    subdomain: Mapped[str] = mapped_column(unique=True)
    clerk_org_id: Mapped[str] = mapped_column(unique=True)
    status: Mapped[str] = mapped_column(server_default=text("'active'"), default="active")
    in_flight_max: Mapped[int] = mapped_column(server_default=text("1000"), default=1_000)
    addresses: Mapped[dict[str, Any] | None]
    """Clients that may speak to it at all: {allow, deny}."""
    config_version: Mapped[int] = mapped_column(BigInteger(), server_default=text("0"), default=0)
    """The newest row of config_versions; 0 before the first."""
