"""What a session token says: version 2 (the default), version 1, and the ways in which a token can be bad.

In:    a session, the issuer, the time.
Out:   header and claims, or a signed token.
Laws:  1. 60 s of life, nbf 10 s before iat, role without `org:` in version 2 and with it in version 1. 2. `azp` is the
       Origin of the request, and absent when there was none. 3. Every flaw of FLAWS makes a token that must be refused.
Not here: who may have one (frontend_api, controls), the verifier (contracts.clerk).
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Callable
from typing import Any

import jwt

from devstack.clerk import people
from devstack.clerk.keys import SigningKeys, new_key
from devstack.clerk.registry import Session

LIFE_S = 60
NBF_BEFORE_S = 10
CATEGORY_SESSION = "cl_B7d4PD111AAA"
CATEGORY_TEMPLATE = "cl_B7d4PD222AAA"
CATEGORY_MACHINE = "cl_B7d4PD333AAA"

Claims = dict[str, Any]
_KEEP = object()


def header() -> Claims:
    return {"cat": CATEGORY_SESSION, "typ": "JWT"}


def claims(
    session: Session, issuer: str, azp: str | None, *, version: int = 2, organisation: str | None = None
) -> Claims:
    """Give the claims of a session token; `organisation` overrides the session's active one ("" is none)."""
    now = int(time.time())
    org_id = session.org_id if organisation is None else organisation
    person = people.person_by_id(session.user_id)
    said: Claims = {
        "exp": now + LIFE_S,
        "fva": [int((now - session.created_at) // 60), -1],
        "iat": now,
        "iss": issuer,
        "jti": secrets.token_hex(10),
        "nbf": now - NBF_BEFORE_S,
        "sid": session.session_id,
        "sub": session.user_id,
    }
    if azp:
        said["azp"] = azp
    if person is not None:
        said["email"] = person.email
    held = people.membership(session.user_id, org_id) if org_id else None
    if version == 1:
        if held is not None:
            slug = people.ORGANISATIONS[held.org_id].slug
            said |= {"org_id": held.org_id, "org_slug": slug, "org_role": held.role, "org_permissions": []}
        return said
    said |= {"v": 2, "sts": "active", "pla": "u:free", "fea": ""}
    if held is not None:
        slug = people.ORGANISATIONS[held.org_id].slug
        said["o"] = {"id": held.org_id, "slg": slug, "rol": held.role.removeprefix("org:"), "per": "", "fpm": ""}
    return said


def session_token(keys: SigningKeys, session: Session, issuer: str, azp: str | None, **options: Any) -> str:
    return keys.sign(claims(session, issuer, azp, **options), header())


def _changed(**changes: Any) -> Callable[[SigningKeys, Claims], str]:
    def make(keys: SigningKeys, said: Claims) -> str:
        return keys.sign({name: value for name, value in {**said, **changes}.items() if value is not _KEEP}, header())

    return make


def _shifted(seconds: int) -> Callable[[SigningKeys, Claims], str]:
    def make(keys: SigningKeys, said: Claims) -> str:
        return keys.sign({**said, **{name: said[name] + seconds for name in ("iat", "nbf", "exp")}}, header())

    return make


def _headed(**changes: Any) -> Callable[[SigningKeys, Claims], str]:
    def make(keys: SigningKeys, said: Claims) -> str:
        return keys.sign(said, {**header(), **changes})

    return make


def _without(name: str) -> Callable[[SigningKeys, Claims], str]:
    def make(keys: SigningKeys, said: Claims) -> str:
        return keys.sign({other: value for other, value in said.items() if other != name}, header())

    return make


def _unsigned(keys: SigningKeys, said: Claims) -> str:
    return jwt.encode(said, "", "none", headers={"kid": keys.key_id, **header()})


def _symmetric(keys: SigningKeys, said: Claims) -> str:
    """Sign with the public key as if it were a shared secret: the classic confusion (RFC 8725 section 2.1)."""
    import hashlib
    import hmac

    head = {"alg": "HS256", "kid": keys.key_id, **header()}
    signed = ".".join(_part(json.dumps(piece).encode()) for piece in (head, said))
    return f"{signed}.{_part(hmac.new(keys.public_pem().encode(), signed.encode(), hashlib.sha256).digest())}"


def _part(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _foreign_key(keys: SigningKeys, said: Claims) -> str:
    return keys.sign(said, header(), new_key())


def _foreign_key_id(keys: SigningKeys, said: Claims) -> str:
    return keys.sign(said, {**header(), "kid": "ins_000000000000000000000000000"}, new_key())


def _tampered(keys: SigningKeys, said: Claims) -> str:
    head, _, signature = keys.sign(said, header()).split(".")
    return f"{head}.{_part(json.dumps({**said, 'sub': people.CHARLIE.user_id}).encode())}.{signature}"


FLAWS: dict[str, Callable[[SigningKeys, Claims], str]] = {
    "expired": _shifted(-3_600),
    "not-yet": _shifted(3_600),
    "wrong-issuer": _changed(iss="https://clerk.elsewhere.example"),
    "wrong-azp": _changed(azp="https://evil.example"),
    "wrong-key": _foreign_key,
    "unknown-kid": _foreign_key_id,
    "tampered": _tampered,
    "pending": _changed(sts="pending"),
    "alg-none": _unsigned,
    "alg-hs256": _symmetric,
    "at+jwt": _headed(typ="at+jwt"),
    "template": _headed(cat=CATEGORY_TEMPLATE),
    "machine": _headed(cat=CATEGORY_MACHINE),
    "no-sid": _without("sid"),
    "no-exp": _without("exp"),
    "long-life": _changed(exp=4_102_444_800),
    "version-3": _changed(v=3),
    "critical": _headed(crit=["exp"]),
}
