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
from webapp.services import issuers, origins
from webapp.services.actor import Actor
from webapp.services.errors import NotFound

_SEALED = (("origin", origins.reseal), ("issuer", issuers.reseal))
"""The nouns that hold sealed secrets."""


def register(app: Flask) -> None:
    app.cli.command("reseal")(reseal)


def reseal() -> None:
    """Seal every stored secret anew with the newest of SEALING_KEYS. May be repeated."""
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
        for noun, seal_anew in _SEALED:
            try:
                done, unopened = seal_anew(actor)
            except NotFound:  # removed meanwhile
                break
            count += done
            lost += len(unopened)
            for noun_id in unopened:
                click.echo(f"tenant {tenant_id}, {noun} {noun_id}: no sealing key that is listed opens it", err=True)
    click.echo(f"{count} secret{'' if count == 1 else 's'} sealed anew")
    if lost:
        raise SystemExit(1)
