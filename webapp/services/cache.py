"""Purging what the edges store: asked for here, done by the worker, seen by every edge through the change stream.

Laws:  1. A purge names nothing of another tenant: the route is looked up under the tenant's scope. 2. It is in the
       audit log before it is sent. 3. No result is waited for: the receipt names the job.
Not here: generations (worker.tasks.cache), what a generation means (edge.store.cache_store).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Self
from uuid import UUID, uuid4

from celery import Celery
from flask import current_app
from kombu.exceptions import OperationalError
from pydantic import Field, field_validator, model_validator

from contracts import bounds, tasks
from contracts.patterns import PathError, normalise_path
from webapp.extensions import current_settings
from webapp.schemas.base import Input, View, wrong
from webapp.services import routes
from webapp.services.actor import Actor, require_admin
from webapp.services.errors import NotFound, StoreUnavailable
from webapp.services.origins import check_tenant
from webapp.services.revision import revision


class PurgeNew(Input):
    """With neither route_id nor url: everything of the tenant."""

    tenant_id: UUID | None = None
    route_id: UUID | None = None
    url: Annotated[str, Field(min_length=1, max_length=bounds.URL_CHARS_MAX, pattern=r"^/[!-~]*$")] | None = None
    """Path and query as clients send them, like /api/posts/1."""

    @field_validator("url")
    @classmethod
    def _servable(cls, url: str | None) -> str | None:
        """Refuse what no client could have been served: the job could only drop it."""
        if url is not None:
            try:
                normalise_path(url.partition("?")[0].encode("ascii"))
            except PathError as error:
                raise ValueError(str(error)) from None
        return url

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.route_id is not None and self.url is not None:
            raise wrong("url", "give route_id or url, not both")
        return self


class PurgeReceipt(View):
    id: UUID
    """Of the job."""
    tenant_id: UUID
    route_id: UUID | None
    url: str | None
    requested_at: datetime


def purge(actor: Actor, new: PurgeNew) -> PurgeReceipt:
    """Raises Forbidden, NotFound (the route), StoreUnavailable (the broker is away: nothing was purged)."""
    require_admin(actor)
    check_tenant(actor, new.tenant_id)
    if new.route_id is not None:
        try:
            routes.get(actor, new.route_id)
        except NotFound:
            raise NotFound("route_id") from None
    receipt = PurgeReceipt(
        id=uuid4(),
        tenant_id=actor.tenant_id,
        route_id=new.route_id,
        url=new.url,
        requested_at=datetime.now(UTC),
    )
    with revision(actor) as change:
        change.record("cache.purged", new.route_id or actor.tenant_id, None, receipt)
    arguments = [str(actor.tenant_id), None if new.route_id is None else str(new.route_id), new.url]
    try:
        _sender().send_task(
            tasks.CACHE_PURGE, args=arguments, task_id=str(receipt.id), queue=tasks.QUEUE_PURGE, retry=False
        )
    except OperationalError as error:
        raise StoreUnavailable("The job queue is away: nothing was purged. Try again.") from error
    return receipt


def _sender() -> Any:
    """Give the application's Celery sender: it knows the broker and no task."""
    sender = current_app.extensions.get("vantageedge.celery")
    if sender is None:
        sender = Celery("vantageedge.sender", broker=current_settings().celery_broker_url, set_as_current=False)
        sender.conf.update(
            task_ignore_result=True,
            broker_connection_timeout=2,
            broker_transport_options={
                "socket_timeout": 2,
                "socket_connect_timeout": 2,
                "global_keyprefix": tasks.BROKER_KEY_PREFIX,
            },
        )
        current_app.extensions["vantageedge.celery"] = sender
    return sender
