"""The cast: who exists in the stand-in, in which organisations, under which fixed ids.

In:    nothing.
Out:   PEOPLE, ORGANISATIONS, MEMBERSHIPS with features and custom permissions, and the instance's keys.
Laws:  1. Ids have the shapes of the real service (prefix + 27 base62) and never change: the seed stores them.
       2. alice administers demo-company, bob is a member there, charlie is a stranger with a tenant of his own.
       3. A custom permission is `org:<feature>:<verb>`; system permissions (`org:sys_...`) are never in a token, and
       nobody here has any.
Not here: sessions (registry), tokens (tokens).
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

INSTANCE_ID = "ins_2vGtDemoStandInOfVantageEdg"
SECRET_KEY = "sk_test_demo-only-never-in-production"  # noqa: S105 - opens the stand-in alone
WEBHOOK_SECRET = "whsec_ZGVtby1vbmx5LW5ldmVyLWluLXByb2R1Y3Rpb24="  # noqa: S105 - signs the stand-in's webhooks alone
CREATED_AT_MS = 1_767_225_600_000


@dataclass(frozen=True, slots=True)
class Person:
    name: str
    user_id: str
    first_name: str
    last_name: str
    email: str


@dataclass(frozen=True, slots=True)
class Organisation:
    org_id: str
    name: str
    slug: str
    features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Membership:
    membership_id: str
    user_id: str
    org_id: str
    role: str
    permissions: tuple[str, ...] = ()


ALICE = Person("alice", "user_2vGtA1iceDemoAdministrator0", "Alice", "Archer", "alice@demo-company.example")
BOB = Person("bob", "user_2vGtB0bDemoMemberOfCompany0", "Bob", "Baker", "bob@demo-company.example")
CHARLIE = Person("charlie", "user_2vGtChar1ieStrangerOfLabs00", "Charlie", "Cooper", "charlie@charlie-labs.example")
PEOPLE: dict[str, Person] = {person.name: person for person in (ALICE, BOB, CHARLIE)}

DEMO_COMPANY = Organisation("org_2vGtDemoCompanyOfAliceBob00", "Demo Company", "demo-company", ("gateway", "keys"))
CHARLIE_LABS = Organisation("org_2vGtChar1ieLabsOfCharlie000", "Charlie Labs", "charlie-labs", ("dashboard", "teams"))
ORGANISATIONS: dict[str, Organisation] = {org.org_id: org for org in (DEMO_COMPANY, CHARLIE_LABS)}

MEMBERSHIPS: tuple[Membership, ...] = (
    Membership(
        "orgmem_2vGtA1iceInDemoCompany00000",
        ALICE.user_id,
        DEMO_COMPANY.org_id,
        "org:admin",
        ("org:gateway:manage", "org:gateway:read", "org:keys:manage"),
    ),
    Membership(
        "orgmem_2vGtB0bInDemoCompany0000000",
        BOB.user_id,
        DEMO_COMPANY.org_id,
        "org:member",
        ("org:gateway:read",),
    ),
    Membership(
        "orgmem_2vGtChar1ieInHisOwnLabs0000",
        CHARLIE.user_id,
        CHARLIE_LABS.org_id,
        "org:admin",
        ("org:dashboard:manage", "org:dashboard:read", "org:teams:read"),
    ),
)


def person_by_id(user_id: str) -> Person | None:
    return next((person for person in PEOPLE.values() if person.user_id == user_id), None)


def memberships_of(user_id: str) -> list[Membership]:
    return [membership for membership in MEMBERSHIPS if membership.user_id == user_id]


def membership(user_id: str, organisation: str) -> Membership | None:
    """Find somebody's membership by the organisation's id or slug."""
    for held in memberships_of(user_id):
        if organisation in (held.org_id, ORGANISATIONS[held.org_id].slug):
            return held
    return None


def publishable_key(host: str) -> str:
    """Give the key that names `host` (with its port) as the Frontend API."""
    return "pk_test_" + base64.b64encode(f"{host}$".encode()).decode().rstrip("=")


def cookie_suffix(key: str) -> str:
    """Give what the service appends to cookie names for this publishable key."""
    return base64.urlsafe_b64encode(hashlib.sha1(key.encode(), usedforsecurity=False).digest()).decode()[:8]
