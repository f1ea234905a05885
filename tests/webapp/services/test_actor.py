"""Roles come from the token: `org:admin` changes things, every other role reads."""

from __future__ import annotations

import pytest

from webapp.services.actor import Caller, may_change, require_admin, role_of
from webapp.services.errors import Forbidden


@pytest.mark.parametrize(
    ("org_role", "role"),
    [("org:admin", "admin"), ("org:member", "member"), ("org:viewer", "member"), ("admin", "member"), (None, "member")],
)
def test_only_the_admin_of_an_organisation_changes_things(org_role: str | None, role: str) -> None:
    assert role_of(org_role) == role
    caller = Caller(org_id="org_x", clerk_user_id=None, role=role_of(org_role), via="api", request_id="r")
    assert may_change(caller) is (role == "admin")
    if role == "admin":
        require_admin(caller)
    else:
        with pytest.raises(Forbidden):
            require_admin(caller)
