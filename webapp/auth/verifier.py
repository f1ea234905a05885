"""Whether a session token is believed: contracts.clerk's rules, the instance's keys, and the sessions signed out here.

In:    a token, and whether a header or a cookie brought it.
Out:   contracts.clerk.Session.
Laws:  1. An unknown kid or a bad signature is worth one refresh of the keys, not more often than the key set allows.
       2. A session signed out here is refused for as long as its last token may live; with Redis away it is believed,
       for its token lives 60 s.
Not here: roles and tenants (webapp.auth.callers).
"""

from __future__ import annotations

import time
from typing import Final

import redis
import structlog
from flask import current_app
from redis.exceptions import RedisError

from contracts import keyspace, messages
from contracts.clerk import BadSignature, Expectation, OneKey, Session, SessionRefused, UnknownKey, verify_session
from webapp.auth.keyset import Keys, KeySet
from webapp.settings import ClerkSettings

DENIED_S: Final = 120
_log = structlog.get_logger(__name__)


class Verifier:
    def __init__(self, settings: ClerkSettings, store: redis.Redis, keyset: KeySet | None = None) -> None:
        self._pinned: Keys | None = None if settings.jwt_key is None else OneKey(settings.jwt_key)
        self._keyset = keyset or KeySet(settings.jwks_url)
        self._store = store
        self._issuer = settings.issuer
        self._parties = settings.authorized_parties

    def keys(self) -> Keys:
        """Raises KeysUnavailable."""
        return self._pinned if self._pinned is not None else self._keyset.keys()

    def renewed_keys(self) -> Keys | None:
        return None if self._pinned is not None else self._keyset.renewed()

    def session(self, token: str, *, from_cookie: bool) -> Session:
        """Raises SessionRefused (why), KeysUnavailable. A cookie must name its authorised party."""
        expected = Expectation(self._issuer, self._parties, azp_required=from_cookie)
        try:
            session = verify_session(token, self.keys(), expected, time.time())
        except (UnknownKey, BadSignature):
            keys = self.renewed_keys()
            if keys is None:
                raise
            session = verify_session(token, keys, expected, time.time())
        if self._is_denied(session.session_id):
            raise SessionRefused("session-denied")
        return session

    def _is_denied(self, session_id: str) -> bool:
        try:
            return bool(self._store.exists(keyspace.denied_session(session_id)))
        except RedisError as error:
            _log.warning("denied_sessions.unavailable", reason=type(error).__name__)
            return False

    def deny(self, session_id: str) -> None:
        """Believe no token of this session any more, here and on the edges. Never raises for a lost store."""
        change = messages.Change(kind="session", tenant_id="", session_id=session_id)
        try:
            self._store.set(keyspace.denied_session(session_id), "1", ex=DENIED_S)
            self._store.xadd(
                keyspace.CHANGES,
                {messages.FIELD: messages.encode(change)},
                maxlen=keyspace.CHANGES_ENTRIES_MAX,
                approximate=True,
            )
        except RedisError as error:
            _log.warning("session.not_denied", reason=type(error).__name__)


def current_verifier() -> Verifier:
    """Give the verifier of the application in context."""
    verifier: Verifier = current_app.extensions["vantageedge.verifier"]
    return verifier
