"""What good tokens say: a session's (version 2, or 1), an OAuth access token, an id token, a machine's.

In:    whom it is for, the issuer, the time.
Out:   headers and claims.
Laws:  1. A session token lives 60 s, its nbf is 10 s before iat, its role has no `org:` in version 2 and has it in
       version 1. 2. `azp` is the Origin of the request, and absent when there was none. 3. Permissions of version 2
       are compact: the i-th number of `o.fpm` says by its bits which names of `o.per` the i-th feature of `fea` has.
       4. An access token is typed `at+jwt` (RFC 9068 section 2.1) and lives a day; a machine token has a category.
Not here: who may have one (frontend_api, oauth_api, machine_api, controls), what bad ones say (flaws), the verifiers.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from devstack.clerk import people
from devstack.clerk.keys import SigningKeys
from devstack.clerk.registry import Session

LIFE_S = 60
ACCESS_LIFE_S = 86_400
NBF_BEFORE_S = 10
CATEGORY_SESSION = "cl_B7d4PD111AAA"
CATEGORY_TEMPLATE = "cl_B7d4PD222AAA"
CATEGORY_MACHINE = "cl_B7d4PD333AAA"

Claims = dict[str, Any]


def header() -> Claims:
    return {"cat": CATEGORY_SESSION, "typ": "JWT"}


def access_header() -> Claims:
    return {"typ": "at+jwt"}


def machine_header() -> Claims:
    return {"cat": CATEGORY_MACHINE, "typ": "JWT"}


def claims(
    session: Session, issuer: str, azp: str | None, now: float, *, version: int = 2, organisation: str | None = None
) -> Claims:
    """Give the claims of a session token; `organisation` overrides the session's active one ("" is none)."""
    at = int(now)
    org_id = session.org_id if organisation is None else organisation
    person = people.person_by_id(session.user_id)
    said: Claims = {
        "exp": at + LIFE_S,
        "fva": [max(int((at - session.created_at) // 60), 0), -1],
        "iat": at,
        "iss": issuer,
        "jti": secrets.token_hex(10),
        "nbf": at - NBF_BEFORE_S,
        "sid": session.session_id,
        "sub": session.user_id,
    }
    if azp:
        said["azp"] = azp
    if person is not None:
        said["email"] = person.email
    held = people.membership(session.user_id, org_id) if org_id else None
    org = people.ORGANISATIONS[held.org_id] if held is not None else None
    if version == 1:
        if held is not None and org is not None:
            permissions = list(held.permissions)
            said |= {"org_id": org.org_id, "org_slug": org.slug, "org_role": held.role, "org_permissions": permissions}
        return said
    said |= {"v": 2, "sts": "active", "pla": "u:free", "fea": ""}
    if held is not None and org is not None:
        per, fpm = compact(org.features, held.permissions)
        said |= {"pla": "o:free", "fea": ",".join(f"o:{feature}" for feature in org.features)}
        said["o"] = {"id": org.org_id, "slg": org.slug, "rol": held.role.removeprefix("org:"), "per": per, "fpm": fpm}
    return said


def compact(features: Sequence[str], permissions: Sequence[str]) -> tuple[str, str]:
    """Give `per` and `fpm` for permissions `org:<feature>:<verb>` of these features, in their order."""
    split = [permission.split(":", 2)[1:] for permission in permissions]
    verbs = sorted({verb for _, verb in split})
    masks = [sum(1 << verbs.index(verb) for feature, verb in split if feature == each) for each in features]
    return ",".join(verbs), ",".join(map(str, masks))


def session_token(keys: SigningKeys, session: Session, issuer: str, azp: str | None, now: float, **more: Any) -> str:
    return keys.sign(claims(session, issuer, azp, now, **more), header())


def access_claims(
    token_id: str, issuer: str, user_id: str, client_id: str, scopes: Sequence[str], now: float,
    *, org_id: str | None = None, audience: str | Sequence[str] | None = None,
) -> Claims:  # fmt: skip
    """Give the claims of an OAuth access token; `aud` is there only where the application has one."""
    at = int(now)
    said: Claims = {
        "client_id": client_id,
        "exp": at + ACCESS_LIFE_S,
        "iat": at,
        "iss": issuer,
        "jti": token_id,
        "nbf": at - NBF_BEFORE_S,
        "scope": " ".join(scopes),
        "sub": user_id,
    }
    if audience:
        said["aud"] = audience if isinstance(audience, str) else list(audience)
    if org_id and "user:org:read" in scopes:
        said["org_id"] = org_id
    return said


def id_claims(issuer: str, user_id: str, client_id: str, now: float, nonce: str | None) -> Claims:
    """Give the claims of an id token (OpenID Connect Core section 2): for the client alone, never for an API."""
    at = int(now)
    said: Claims = {"aud": client_id, "exp": at + 3_600, "iat": at, "iss": issuer, "sub": user_id}
    return said | ({"nonce": nonce} if nonce else {})


def machine_claims(
    token_id: str, issuer: str, machine_id: str, audience: Sequence[str], now: float, life_s: float, extra: Claims
) -> Claims:
    """Give the claims of a machine's token: whom it may speak to stands in `aud` and, as one text, in `scopes`."""
    at = int(now)
    return {
        **extra,
        "aud": list(audience),
        "exp": at + int(life_s),
        "iat": at,
        "iss": issuer,
        "jti": token_id,
        "nbf": at - NBF_BEFORE_S,
        "scopes": " ".join(audience),
        "sub": machine_id,
    }
