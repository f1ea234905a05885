"""What an operator runs by hand: `flask --app webapp.app:create_app <command>`.

In:    the environment of the console.
Out:   one line of what was done; exit code 1 when something could not be.
Not here: migrations (Flask-Migrate's `db`), jobs that run by themselves (worker).
"""

from __future__ import annotations

import uuid

import click
from flask import Flask
from flask.cli import AppGroup
from sqlalchemy import select

from webapp.extensions import current_settings, system_scope
from webapp.models import Tenant
from webapp.services import identity_keys, issuers, key_rotation, key_uses, origins, services
from webapp.services.actor import Actor
from webapp.services.errors import NotFound

_SEALED = (
    ("origin", origins.reseal),
    ("issuer", issuers.reseal),
    ("identity key", identity_keys.reseal),
    ("API key", key_rotation.reseal),
    ("service", services.reseal),
)
"""The nouns that hold sealed secrets."""


def register(app: Flask) -> None:
    app.cli.command("reseal")(reseal)
    keys = AppGroup("keys", help="API keys of all tenants.")
    keys.command("peppers")(peppers)
    app.cli.add_command(keys)


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


def peppers() -> None:
    """Say how many keys still need each version of KEY_PEPPERS. Exit code 1: some need one that is not listed."""
    held = key_uses.keys_by_pepper()
    known = current_settings().key_peppers
    lost = 0
    for version in sorted(known.keys() | held.keys(), reverse=True):
        count, last_used_at = held.get(version, (0, None))
        if version not in known:
            lost += count
            state = "NOT LISTED: these keys are refused"
        elif version == max(known):
            state = "current"
        else:
            state = "still needed" if count else "may be retired"
        used = f", last used {last_used_at:%Y-%m-%d %H:%M} UTC" if last_used_at is not None else ""
        click.echo(f"pepper {version}: {count} key{'' if count == 1 else 's'}{used} ({state})")
    if lost:
        raise SystemExit(1)
