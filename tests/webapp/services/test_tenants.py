"""Tenants are made whole or not at all, and people become members on first sight."""

from __future__ import annotations

import pytest
from flask import Flask
from sqlalchemy import text

from webapp.extensions import db, system_scope
from webapp.schemas.tenant import TenantNew
from webapp.services import publishing, revision, tenants
from webapp.services.actor import Actor, Caller
from webapp.services.errors import NotFound

DORA = Caller(org_id="org_new", clerk_user_id="user_dora", role="admin", via="cli", request_id="a-test")
NEW = TenantNew(name="newcomers", subdomain="newcomers", clerk_org_id="org_new")


def test_a_tenant_is_made_with_its_first_version_or_not_at_all(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("in the middle")

    with app.app_context():
        with monkeypatch.context() as patched:
            patched.setattr(revision.snapshots, "build", broken)
            with pytest.raises(RuntimeError, match="in the middle"):
                tenants.create(DORA, NEW)
        with system_scope():
            assert db.session.execute(text("SELECT count(*) FROM tenants")).scalar_one() == 0
        written = tenants.create(DORA, NEW)
        assert (written.view.config_version, written.receipt.version) == (1, 1)
        assert written.receipt.is_published
        assert publishing.drift(written.view.id) == ()


def test_signing_in_finds_ones_tenant_and_makes_one_a_member_once(app: Flask, demo: Actor) -> None:
    with app.app_context():
        assert tenants.sign_in(DORA) is None
        caller = Caller(org_id="org_demo", clerk_user_id="user_bob", role="member", via="api", request_id="a-test")
        first, second = tenants.sign_in(caller), tenants.sign_in(caller)
        assert first is not None and second is not None
        assert first[0].user_id == second[0].user_id is not None
        assert (first[1].subdomain, first[0].tenant_id, first[0].role) == ("demo", demo.tenant_id, "member")
        job = Caller(org_id="org_demo", clerk_user_id=None, role="admin", via="worker", request_id="a-test")
        found = tenants.sign_in(job)
        assert found is not None and found[0].user_id is None


def test_a_tenant_of_another_is_not_found_whatever_is_asked(app: Flask, demo: Actor, other: Actor) -> None:
    with app.app_context():
        for call in (tenants.get, tenants.remove):
            with pytest.raises(NotFound):
                call(demo, other.tenant_id)
