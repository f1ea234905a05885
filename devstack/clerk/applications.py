"""OAuth applications, and what they were granted: codes, access tokens, refresh tokens.

In:    calls of the endpoints.
Out:   Application, Grant, AccessToken.
Laws:  1. A code is good once and for CODE_LIFE_S; a second use takes back all that came of it (RFC 6749 section 4.1.2).
       2. A refresh token is good once; its successor belongs to the same grant, and the use of an old one ends the
       grant (RFC 9700 section 4.14.2). 3. Secrets are kept as digests, save the applications' own.
Not here: endpoints (oauth_api, application_api), what a token says (tokens).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from devstack.clerk import people
from devstack.clerk.clock import Clock
from devstack.clerk.registry import new_id
from devstack.clerk.tokens import ACCESS_LIFE_S

CODE_LIFE_S: Final = 600
SCOPES: Final = ("openid", "profile", "email", "user:org:read", "offline_access")
DEMO_REDIRECT: Final = "http://localhost:8090/callback"
DEMO_SECRET: Final = "demo-only-oauth-secret-never-in-production"  # noqa: S105 - opens the stand-in alone


@dataclass(slots=True)
class Application:
    """`secret` empty: a public client. `asks`: whether the person is asked for consent."""

    application_id: str
    client_id: str
    name: str
    redirect_uris: tuple[str, ...]
    secret: str = field(repr=False, default=DEMO_SECRET)
    scopes: tuple[str, ...] = SCOPES
    asks: bool = True
    is_opaque: bool = False
    audience: tuple[str, ...] = ()
    created_at_ms: int = people.CREATED_AT_MS

    @property
    def is_public(self) -> bool:
        return not self.secret


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person was asked to grant."""

    client_id: str
    user_id: str
    org_id: str | None
    redirect_uri: str
    scopes: tuple[str, ...]
    challenge: str
    nonce: str | None


@dataclass(slots=True)
class Grant:
    """What a person granted. Ended: none of its tokens is good any more."""

    asked: Asked
    code_expires_at: float
    is_code_used: bool = False
    is_ended: bool = False


@dataclass(slots=True)
class AccessToken:
    token_id: str
    client_id: str
    user_id: str
    org_id: str | None
    scopes: tuple[str, ...]
    created_at: float
    expires_at: float
    is_jwt: bool
    grant: Grant | None
    is_revoked: bool = False

    @property
    def revoked(self) -> bool:
        return self.is_revoked or (self.grant is not None and self.grant.is_ended)


@dataclass(slots=True)
class _Refresh:
    grant: Grant
    scopes: tuple[str, ...]
    is_used: bool = False


class Applications:
    """All applications and grants of this process. Not thread-safe, as the registry."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._grants: dict[bytes, Grant] = {}
        self._access: dict[bytes, AccessToken] = {}
        self._refresh: dict[bytes, _Refresh] = {}
        demo = Application("oauthapp_2vGtDemoWithJwtTokens000000", "2vGtDemoWithJwt0", "Demo JWT", (DEMO_REDIRECT,))
        others = (
            replace(
                demo,
                application_id="oauthapp_2vGtDemoOpaqueTokens0000000",
                client_id="2vGtDemoOpaque00",
                name="Demo opaque",
                is_opaque=True,
            ),
            replace(
                demo,
                application_id="oauthapp_2vGtDemoPub1icC1ient0000000",
                client_id="2vGtDemoPub1ic00",
                name="Demo public",
                secret="",
            ),
        )
        self.by_client: dict[str, Application] = {each.client_id: each for each in (demo, *others)}

    def add(self, made: Application) -> Application:
        self.by_client[made.client_id] = made
        return made

    # ---- codes

    def grant(self, asked: Asked) -> str:
        """Give a code for what was granted."""
        code = new_id("") + new_id("")
        self._grants[_digest(code)] = Grant(asked, self._clock.now() + CODE_LIFE_S)
        return code

    def redeem(self, code: str, fits: Callable[[Asked], bool]) -> Grant | None:
        """Take a code that fits, once. A code that was used before ends its grant."""
        grant = self._grants.get(_digest(code))
        if grant is None or not fits(grant.asked):
            return None
        if grant.is_code_used:
            grant.is_ended = True
            return None
        grant.is_code_used = True
        return grant if self._clock.now() < grant.code_expires_at else None

    # ---- access tokens

    def access(
        self, application: Application, user_id: str, org_id: str | None, scopes: Sequence[str], grant: Grant | None
    ) -> AccessToken:
        """Make the record of an access token; `keep` it under its text."""
        now = self._clock.now()
        kept_org = org_id if "user:org:read" in scopes else None
        return AccessToken(
            new_id("oat_"), application.client_id, user_id, kept_org, tuple(scopes), now, now + ACCESS_LIFE_S,
            not application.is_opaque, grant,
        )  # fmt: skip

    def keep(self, text: str, token: AccessToken) -> None:
        self._access[_digest(text)] = token

    def find_access(self, text: str) -> AccessToken | None:
        return self._access.get(_digest(text))

    def is_live(self, token: AccessToken | None) -> bool:
        return token is not None and not token.revoked and self._clock.now() < token.expires_at

    def is_expired(self, token: AccessToken) -> bool:
        return self._clock.now() >= token.expires_at

    # ---- refresh tokens

    def refresh(self, grant: Grant, scopes: tuple[str, ...]) -> str:
        text = new_id("ort_") + new_id("")
        self._refresh[_digest(text)] = _Refresh(grant, scopes)
        return text

    def use_refresh(self, text: str, client_id: str) -> tuple[Grant, tuple[str, ...]] | None:
        """Take a refresh token, once, with the scopes it may give. One used before ends its grant."""
        kept = self._refresh.get(_digest(text))
        if kept is None or kept.grant.asked.client_id != client_id or kept.grant.is_ended:
            return None
        if kept.is_used:
            kept.grant.is_ended = True
            return None
        kept.is_used = True
        return kept.grant, kept.scopes

    def revoke(self, text: str, client_id: str) -> None:
        """Take back one access token, or with a refresh token its whole grant (RFC 7009 section 2.1)."""
        access, refresh = self.find_access(text), self._refresh.get(_digest(text))
        if access is not None and access.client_id == client_id:
            access.is_revoked = True
        if refresh is not None and refresh.grant.asked.client_id == client_id:
            refresh.grant.is_ended = True


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
