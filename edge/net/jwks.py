"""Clerk's public keys and the sessions that were signed out (ports.SessionKeys).

In:    CLERK_JWT_KEY, or the key set behind CLERK_JWKS_URL; session changes from the feed.
Out:   kid -> key, from memory.
Laws:  1. A fetch follows no redirect, takes at most TIMEOUT_S and KEYSET_BYTES_MAX, and one is under way at a time.
       2. A fetch that fails changes nothing: the last good set is kept STALE_KEPT_S. 3. Requests ask for a refresh at
       most once in REFRESH_GAP_S, whoever asks. 4. A signed-out session is remembered as long as its tokens can live.
Not here: verifying tokens (contracts.clerk, edge.phases.auth).
"""

from __future__ import annotations

import logging
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

import gevent
import requests
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from gevent.lock import RLock

from contracts.clerk import LIFETIME_S_MAX, SKEW_S, Expectation, KeySetError, OneKey, parse_keyset, parse_pem
from contracts.messages import Change
from edge.errors import GatewayError
from edge.settings import ClerkSettings

_LOG: Final = logging.getLogger(__name__)
TIMEOUT_S: Final = 3.0
KEYSET_BYTES_MAX: Final = 65_536
REFRESH_EVERY_S: Final = 300.0
REFRESH_GAP_S: Final = 10.0
STALE_KEPT_S: Final = 86_400.0
_DENIED_MAX: Final = 100_000
_DENIED_S: Final = LIFETIME_S_MAX + 2 * SKEW_S


class SessionKeySet:
    def __init__(self, clerk: ClerkSettings, mono: Callable[[], float] = time.monotonic) -> None:
        self.expectation: Final = Expectation(
            clerk.issuer, clerk.authorized_parties, oauth_audiences=clerk.oauth_audiences, machine_id=clerk.machine_id
        )
        self._url = clerk.jwks_url
        self._mono = mono
        self._pinned: Mapping[str, RSAPublicKey] | None = OneKey(parse_pem(clerk.jwt_key)) if clerk.jwt_key else None
        self._keys: Mapping[str, RSAPublicKey] = {}
        self._document: bytes | None = None
        self._fetched_mono = float("-inf")
        self._tried_mono = float("-inf")
        self._lock = RLock()
        self._denied: OrderedDict[str, float] = OrderedDict()
        self._greenlet: gevent.Greenlet[[], None] | None = None
        self.errors_total = 0

    def start(self) -> None:
        if self._pinned is None:
            self._greenlet = gevent.spawn(self._refresh_forever)

    def stop(self) -> None:
        if self._greenlet is not None:
            self._greenlet.kill()
            self._greenlet = None

    def keys(self) -> Mapping[str, RSAPublicKey]:
        if self._pinned is not None:
            return self._pinned
        if not self._keys or self._mono() - self._fetched_mono > STALE_KEPT_S:
            return self.refreshed()
        return self._keys

    def refreshed(self) -> Mapping[str, RSAPublicKey]:
        if self._pinned is not None:
            return self._pinned
        with self._lock:
            if self._mono() - self._tried_mono >= REFRESH_GAP_S:
                self._fetch()
        if not self._keys or self._mono() - self._fetched_mono > STALE_KEPT_S:
            raise GatewayError(
                "identity-unavailable",
                "Sessions cannot be checked right now.",
                internal="the issuer's key set was never fetched, or too long ago",
                fields=((b"Retry-After", b"%d" % REFRESH_GAP_S),),
            )
        return self._keys

    def _fetch(self) -> None:
        self._tried_mono = self._mono()
        try:
            with gevent.Timeout(2 * TIMEOUT_S, requests.Timeout("the answer does not end")):
                document = self._download()
            if document != self._document:  # an equal one leaves the set as it is, and all that was believed by it
                self._keys, self._document = parse_keyset(document), document
            self._fetched_mono = self._mono()
        except (requests.RequestException, KeySetError) as error:
            self.errors_total += 1
            _LOG.warning("the issuer's key set could not be renewed: %s", error)

    def _download(self) -> bytes:
        answer = requests.get(self._url, timeout=TIMEOUT_S, allow_redirects=False, stream=True)
        try:
            if answer.status_code != 200:
                raise KeySetError(f"status {answer.status_code}")
            document = b""
            for piece in answer.iter_content(8_192):
                document += piece
                if len(document) > KEYSET_BYTES_MAX:
                    raise KeySetError(f"larger than {KEYSET_BYTES_MAX} bytes")
            return document
        finally:
            answer.close()

    def _refresh_forever(self) -> None:
        while True:
            with self._lock:
                if self._mono() - self._tried_mono >= REFRESH_GAP_S:
                    self._fetch()
            # Until there is a set, ask as often as a request could.
            gevent.sleep((REFRESH_EVERY_S if self._keys else REFRESH_GAP_S) * random.uniform(0.9, 1.1))

    # ---- signed-out sessions

    def denied(self, session_id: str) -> bool:
        until = self._denied.get(session_id)
        return until is not None and until > self._mono()

    def on_change(self, change: Change) -> None:
        if change.kind == "session" and change.session_id:
            self._denied[change.session_id] = self._mono() + _DENIED_S
            while len(self._denied) > _DENIED_MAX:
                self._denied.popitem(last=False)

    def on_resync(self, lost: bool) -> None:
        """Nothing to reload: a signed-out session stays signed out."""
