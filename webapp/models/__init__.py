"""The tables, one module per noun. Importing this package registers them all on Base.metadata."""

from __future__ import annotations

from webapp.models.api_key import ApiKey
from webapp.models.audit_entry import AuditEntry
from webapp.models.base import Base
from webapp.models.config_version import ConfigVersion
from webapp.models.identity_key import IdentityKey
from webapp.models.issuer import Issuer
from webapp.models.origin import Origin, Target
from webapp.models.outbox import OutboxEntry
from webapp.models.route import Route
from webapp.models.service import Service
from webapp.models.tenant import Tenant
from webapp.models.user import User

__all__ = [
    "ApiKey", "AuditEntry", "Base", "ConfigVersion", "IdentityKey", "Issuer", "Origin", "OutboxEntry", "Route",
    "Service", "Target", "Tenant", "User",
]  # fmt: skip
