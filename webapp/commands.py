"""What an operator runs by hand: `flask --app webapp.app:create_app <command>`.

In:    the environment of the console.
Out:   one line of what was done; exit code 1 when something could not be.
Not here: migrations (Flask-Migrate's `db`), jobs that run by themselves (worker).
"""

from __future__ import annotations

import uuid

import click
from flask import Flask
from sqlalchemy import select

from webapp.extensions import system_scope
from webapp.models import Tenant
from webapp.services import origins
from webapp.services.actor import Actor
from webapp.services.errors import NotFound


def register(app: Flask) -> None:
    app.cli.command("reseal")(reseal)


def reseal() -> None:
    """Seal every client key of an origin anew with the newest of SEALING_KEYS. May be repeated."""
    with system_scope() as session:
        tenants = session.execute(select(Tenant.id, Tenant.clerk_org_id).order_by(Tenant.created_at)).all()
    count, lost = 0, 0
    for tenant_id, org_id in tenants:
        actor = Actor(
            org_id=org_id,
            clerk_user_id=None,
            role="admin",
            via="cli",
            request_id=str(uuid.uuid4()),
            tenant_id=tenant_id,
            user_id=None,
        )
        try:
            done, unopened = origins.reseal(actor)
        except NotFound:  # removed meanwhile
            continue
        count += done
        lost += len(unopened)
        for origin_id in unopened:
            click.echo(f"tenant {tenant_id}, origin {origin_id}: no sealing key that is listed opens it", err=True)
    click.echo(f"{count} client key{'' if count == 1 else 's'} sealed anew")
    if lost:
        raise SystemExit(1)
