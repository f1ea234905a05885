"""The JSON of the service's objects: users, organisations, memberships, sessions, clients. Times in milliseconds.

In:    people and registry objects.
Out:   dicts.
Not here: which endpoint shows which (frontend_api, backend_api).
"""

from __future__ import annotations

from typing import Any

from devstack.clerk import people
from devstack.clerk.registry import Client, Registry, Session

Json = dict[str, Any]
_TIMES = {"created_at": people.CREATED_AT_MS, "updated_at": people.CREATED_AT_MS}


def user(person: people.Person) -> Json:
    address_id = "idn_" + person.user_id.removeprefix("user_")
    address = {
        "id": address_id,
        "object": "email_address",
        "email_address": person.email,
        "reserved": False,
        "verification": {"status": "verified", "strategy": "admin", "attempts": None, "expire_at": None},
        "linked_to": [],
        **_TIMES,
    }
    return {
        "id": person.user_id,
        "object": "user",
        "username": person.name,
        "first_name": person.first_name,
        "last_name": person.last_name,
        "image_url": "",
        "has_image": False,
        "primary_email_address_id": address_id,
        "primary_phone_number_id": None,
        "email_addresses": [address],
        "phone_numbers": [],
        "external_accounts": [],
        "external_id": None,
        "password_enabled": False,
        "two_factor_enabled": False,
        "banned": False,
        "locked": False,
        "public_metadata": {},
        "unsafe_metadata": {},
        "last_sign_in_at": None,
        "last_active_at": None,
        **_TIMES,
    }


def organisation(org: people.Organisation) -> Json:
    members = sum(1 for held in people.MEMBERSHIPS if held.org_id == org.org_id)
    return {
        "object": "organization",
        "id": org.org_id,
        "name": org.name,
        "slug": org.slug,
        "image_url": "",
        "has_image": False,
        "members_count": members,
        "max_allowed_memberships": 5,
        "admin_delete_enabled": True,
        "public_metadata": {},
        "private_metadata": {},
        "created_by": None,
        **_TIMES,
    }


def membership(held: people.Membership) -> Json:
    person = people.person_by_id(held.user_id)
    assert person is not None
    return {
        "object": "organization_membership",
        "id": held.membership_id,
        "role": held.role,
        "role_name": held.role.removeprefix("org:").title(),
        "permissions": [],
        "organization": organisation(people.ORGANISATIONS[held.org_id]),
        "public_metadata": {},
        "public_user_data": {
            "user_id": person.user_id,
            "identifier": person.email,
            "first_name": person.first_name,
            "last_name": person.last_name,
            "image_url": "",
            "has_image": False,
        },
        **_TIMES,
    }


def session(found: Session, *, full: bool = False) -> Json:
    at_ms = int(found.created_at * 1_000)
    said: Json = {
        "object": "session",
        "id": found.session_id,
        "client_id": found.client_id,
        "user_id": found.user_id,
        "status": found.status,
        "last_active_organization_id": found.org_id,
        "last_active_at": at_ms,
        "expire_at": at_ms + 7 * 86_400_000,
        "abandon_at": at_ms + 30 * 86_400_000,
        "created_at": at_ms,
        "updated_at": at_ms,
    }
    person = people.person_by_id(found.user_id)
    if full and person is not None:
        said["user"] = {
            **user(person),
            "organization_memberships": [membership(held) for held in people.memberships_of(person.user_id)],
        }
        said["public_user_data"] = {"first_name": person.first_name, "identifier": person.email}
    return said


def client(found: Client | None, registry: Registry) -> Json | None:
    if found is None:
        return None
    active = registry.active_sessions(found)
    return {
        "object": "client",
        "id": found.client_id,
        "sessions": [session(each, full=True) for each in active],
        "sign_in": None,
        "sign_up": None,
        "last_active_session_id": active[-1].session_id if active else None,
        "created_at": found.updated_at * 1_000,
        "updated_at": found.updated_at * 1_000,
    }
