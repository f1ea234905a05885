"""The JSON of the service's objects: users, organisations, memberships, sessions, clients, machines, OAuth
applications, and the tokens of the last two. Times in milliseconds.

In:    people and registry objects.
Out:   dicts.
Not here: which endpoint shows which.
"""

from __future__ import annotations

from typing import Any

from devstack.clerk import people
from devstack.clerk.applications import AccessToken, Application, Applications
from devstack.clerk.machines import Machine, Machines, MachineToken
from devstack.clerk.registry import Client, Registry, Session

Json = dict[str, Any]
_TIMES = {"created_at": people.CREATED_AT_MS, "updated_at": people.CREATED_AT_MS}


def user(person: people.Person) -> Json:
    address = _address(person)
    return {
        "id": person.user_id,
        "object": "user",
        "username": person.name,
        "first_name": person.first_name,
        "last_name": person.last_name,
        "image_url": "",
        "has_image": False,
        "primary_email_address_id": address["id"],
        "primary_phone_number_id": None,
        "primary_web3_wallet_id": None,
        "email_addresses": [address],
        "phone_numbers": [],
        "web3_wallets": [],
        "passkeys": [],
        "external_accounts": [],
        "saml_accounts": [],
        "enterprise_accounts": [],
        "external_id": None,
        "password_enabled": False,
        "two_factor_enabled": False,
        "totp_enabled": False,
        "backup_code_enabled": False,
        "mfa_enabled_at": None,
        "mfa_disabled_at": None,
        "banned": False,
        "locked": False,
        "lockout_expires_in_seconds": None,
        "verification_attempts_remaining": 100,
        "delete_self_enabled": True,
        "create_organization_enabled": True,
        "legal_accepted_at": None,
        "public_metadata": {},
        "unsafe_metadata": {},
        "last_sign_in_at": None,
        "last_active_at": None,
        **_TIMES,
    }


def _address(person: people.Person) -> Json:
    return {
        "id": "idn_" + person.user_id.removeprefix("user_"),
        "object": "email_address",
        "email_address": person.email,
        "reserved": False,
        "verification": {
            "object": "verification_admin",
            "status": "verified",
            "strategy": "admin",
            "attempts": None,
            "expire_at": None,
        },
        "linked_to": [],
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
        "permissions": list(held.permissions),
        "organization": organisation(people.ORGANISATIONS[held.org_id]),
        "public_metadata": {},
        "public_user_data": {
            "user_id": person.user_id,
            "identifier": person.email,
            "first_name": person.first_name,
            "last_name": person.last_name,
            "image_url": "",
            "profile_image_url": "",
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


def machine(found: Machine, machines: Machines) -> Json:
    spoken_to = [machines.by_id[each] for each in found.speaks_to]
    return _one_machine(found) | {"scoped_machines": [_one_machine(each) for each in spoken_to]}


def _one_machine(found: Machine) -> Json:
    return {
        "object": "machine",
        "id": found.machine_id,
        "name": found.name,
        "instance_id": people.INSTANCE_ID,
        "default_token_ttl": found.life_s,
        "created_at": found.created_at_ms,
        "updated_at": found.created_at_ms,
    }


def machine_token(found: MachineToken, machines: Machines) -> Json:
    return {
        "object": "machine_to_machine_token",
        "id": found.token_id,
        "subject": found.machine_id,
        "scopes": list(found.audience),
        "claims": found.claims,
        "revoked": found.revoked,
        "revocation_reason": found.reason,
        "expired": machines.is_expired(found),
        "expiration": _ms(found.expires_at),
        "last_used_at": _ms(found.used_at),
        "created_at": _ms(found.created_at),
        "updated_at": _ms(found.created_at),
    }


def application(found: Application, issuer: str) -> Json:
    return {
        "object": "oauth_application",
        "id": found.application_id,
        "instance_id": people.INSTANCE_ID,
        "name": found.name,
        "client_id": found.client_id,
        "client_uri": None,
        "client_image_url": None,
        "dynamically_registered": False,
        "consent_screen_enabled": found.asks,
        "pkce_required": True,
        "public": found.is_public,
        "scopes": " ".join(found.scopes),
        "redirect_uris": list(found.redirect_uris),
        "callback_url": found.redirect_uris[0],
        "authorize_url": f"{issuer}/oauth/authorize",
        "token_fetch_url": f"{issuer}/oauth/token",
        "user_info_url": f"{issuer}/oauth/userinfo",
        "discovery_url": f"{issuer}/.well-known/openid-configuration",
        "token_introspection_url": f"{issuer}/oauth/token_info",
        "created_at": found.created_at_ms,
        "updated_at": found.created_at_ms,
    }


def access_token(found: AccessToken, applications: Applications) -> Json:
    return {
        "object": "clerk_idp_oauth_access_token",
        "id": found.token_id,
        "client_id": found.client_id,
        "subject": found.user_id,
        "scopes": list(found.scopes),
        "revoked": found.revoked,
        "revocation_reason": "revoked by its application" if found.revoked else None,
        "expired": applications.is_expired(found),
        "expiration": _ms(found.expires_at),
        "created_at": _ms(found.created_at),
        "updated_at": _ms(found.created_at),
    }


def _ms(at: float | None) -> int | None:
    return None if at is None else int(at * 1_000)
