"""The one way a tenant is changed: locked, versioned, audited, put into the outbox, published after the commit.

In:    an Actor who may change things; inside the block, rows and what to record.
Out:   Revision.receipt: the version in force, and its place in the change stream once Redis has it.
Laws:  1. One transaction: rows, tenants.config_version, config_versions, outbox and audit_log stand or fall together.
       2. The tenant's row is locked first, so versions have no gaps and no races. 3. Redis away fails no write: the
       outbox keeps what is owed. 4. Nothing secret enters the audit log.
Not here: what Redis is told (services.publishing), the document (services.snapshots).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import Delete
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from contracts import snapshot as snapshots_contract
from webapp.extensions import tenant_scope
from webapp.models import AuditEntry, ConfigVersion, OutboxEntry, Tenant
from webapp.schemas.base import View
from webapp.services import publishing, snapshots
from webapp.services.actor import Actor, require_admin
from webapp.services.errors import NotFound, PreconditionFailed, conflict_from

V = TypeVar("V")
DIGESTS_PER_ENTRY_MAX = 500


@dataclass(frozen=True, slots=True)
class Written(Generic[V]):
    """What a write gives back: the thing as it is now, and where the change stands on its way to the edges."""

    view: V
    receipt: publishing.Receipt


class Revision:
    """One change in the making. `receipt` is there after the block."""

    def __init__(self, session: Session, tenant: Tenant, actor: Actor) -> None:
        self.session = session
        self.tenant = tenant
        self.actor = actor
        self.receipt = publishing.Receipt(actor.tenant_id, tenant.config_version or 0, None)
        self._audit: list[AuditEntry] = []
        self._message: str | None = None
        self._hosts: tuple[str, ...] = ()
        self._entries: list[OutboxEntry] = []
        self._deletions: tuple[Delete, ...] = ()

    def record(
        self, action: str, noun_id: UUID | str, before: View | Mapping[str, Any] | None, after: View | None
    ) -> None:
        """Write one line of the audit log. Views are plain and hold no secret."""
        self._audit.append(
            AuditEntry(
                tenant_id=self.tenant.id,
                via=self.actor.via,
                user_id=self.actor.user_id,
                clerk_user_id=self.actor.clerk_user_id,
                session_id=self.actor.session_id,
                impersonator=self.actor.impersonator,
                action=action,
                noun_id=str(noun_id),
                before=_plain(before),
                after=_plain(after),
                request_id=self.actor.request_id,
                ip=self.actor.ip,
            )
        )

    def config_changed(self, message: str, old_hosts: Iterable[str] = ()) -> None:
        """Make a new version of the configuration when the block ends. `old_hosts` no longer name this tenant."""
        self._message = message
        self._hosts = tuple(old_hosts)

    def keys_changed(self, digests: Iterable[str]) -> None:
        """Have the records of these keys renewed (or removed) in Redis."""
        listed = list(digests)
        for start in range(0, len(listed), DIGESTS_PER_ENTRY_MAX):
            self._owe("key", {"digests": listed[start : start + DIGESTS_PER_ENTRY_MAX]})

    def tenant_removed(self, host: str) -> None:
        self._owe("removed", {"hosts": [host]})

    def _owe(self, kind: str, payload: dict[str, Any]) -> None:
        self._entries.append(OutboxEntry(tenant_id=self.tenant.id, kind=kind, payload=payload))

    def seal(self) -> None:
        """Write the version, the outbox and the audit log into the open transaction."""
        self.session.flush()
        if self._message is not None:
            self._new_version(self._message)
        for line in self._audit:
            line.config_version = self.tenant.config_version
        self.session.add_all([*self._entries, *self._audit])
        self.session.flush()
        for deletion in self._deletions:
            self.session.execute(deletion, execution_options={"synchronize_session": False})

    def _new_version(self, message: str) -> None:
        version = self.tenant.config_version + 1
        body, sha256 = snapshots_contract.encode(snapshots.build(self.session, self.tenant, version))
        self.tenant.config_version = version
        self.session.add(
            ConfigVersion(
                tenant_id=self.tenant.id,
                version=version,
                body=body.decode("utf-8"),
                sha256=sha256,
                author=self.actor.clerk_user_id,
                message=message,
            )
        )
        self._owe("config", {"version": version, "old_hosts": list(self._hosts)})

    def seal_then_delete(self, *deletions: Delete) -> None:
        """Have these run last, when the audit log and the outbox are written."""
        self._deletions = deletions

    def owed(self) -> publishing.Owed:
        ids = tuple(entry.id for entry in self._entries)
        return publishing.Owed(self.tenant.id, self.tenant.config_version, ids)


@contextmanager
def revision(actor: Actor, founding: Tenant | None = None, *, of_their_own: bool = False) -> Iterator[Revision]:
    """Change the actor's tenant, or make it (`founding`, by the actor's tenant_id).

    `of_their_own`: the block changes only what services.actor.require_own lets this actor change.
    Raises Forbidden, NotFound, Conflict. Blocks on the tenant's lock (at most 5 s).
    """
    if not of_their_own:
        require_admin(actor)
    with tenant_scope(actor.tenant_id) as session:
        tenant = founding or session.get(Tenant, actor.tenant_id, with_for_update=True)
        if tenant is None:
            raise NotFound
        change = Revision(session, tenant, actor)
        try:
            if founding is not None:
                session.add(founding)
                session.flush()
            yield change
            change.seal()
            session.commit()
        except IntegrityError as error:
            raise conflict_from(error) from None
        owed = change.owed()
    change.receipt = publishing.publish_now(owed)


def check_match(row_version: int, if_match: int | None) -> None:
    """Raises PreconditionFailed when the row is not the one that was read (RFC 9110 section 13.1.1)."""
    if if_match is not None and row_version != if_match:
        raise PreconditionFailed


def _plain(view: View | Mapping[str, Any] | None) -> dict[str, Any] | None:
    if view is None:
        return None
    return view.model_dump(mode="json") if isinstance(view, View) else dict(view)
