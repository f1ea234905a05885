"""Public keys of tenants' own issuers, fetched from where the tenant says they are (ports.IssuerKeys).

In:    compiled issuers with a jwks_uri; the guarded way out; the time.
Out:   KeySet, from memory; GatewayError identity-unavailable when there is none.
Laws:  1. A set is fresh for FRESH_S; then it is renewed behind the requests, and after twice that before them, so that
       a key its issuer withdrew is believed no longer. While the issuer is down the last good set is kept STALE_KEPT_S.
       2. One fetch at a time for each issuer, at most once in REFRESH_GAP_S, whoever asks and however it ended: forged
       tokens make no traffic. 3. A set is found by tenant, issuer, jwks_uri and algorithms: another jwks_uri never uses
       old keys. 4. An equal document gives the very same set. 5. Bounded for all tenants together, by sets
       and by keys; a tenant that is dropped takes its own along.
Not here: connecting (fetching, upstream), what keys are good for (contracts.keysets), Clerk's keys (jwks).
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import gevent
from gevent.event import AsyncResult

from contracts.keysets import KeySet, KeySetError, parse_jwks
from edge.errors import GatewayError
from edge.issuers import Issuer
from edge.net.fetching import TIMEOUT_S, FetchFailed, fetch
from edge.ports import Upstream

_LOG: Final = logging.getLogger(__name__)
FRESH_S: Final = 300.0
STALE_KEPT_S: Final = 86_400.0
REFRESH_GAP_S: Final = 10.0
SETS_MAX: Final = 4_096
KEYS_MAX: Final = 8_192
_NEVER: Final = float("-inf")


class _Held:
    """What is known of one issuer's keys. `flight`: the fetch under way, for all who wait for it."""

    __slots__ = ("document", "failed", "fetched_mono", "flight", "keys", "tried_mono")

    def __init__(self) -> None:
        self.keys: KeySet | None = None
        self.document = b""
        self.fetched_mono = _NEVER
        self.tried_mono = _NEVER
        self.failed = ""
        self.flight: AsyncResult[None] | None = None


class IssuerKeySets:
    def __init__(self, upstream: Upstream, mono: Callable[[], float] = time.monotonic) -> None:
        self._upstream = upstream
        self._mono = mono
        self._held: OrderedDict[tuple[str, bytes], _Held] = OrderedDict()
        self._keys_held = 0
        self.errors_total = 0

    def __len__(self) -> int:
        return len(self._held)

    def keys(self, issuer: Issuer) -> KeySet:
        held = self._of(issuer)
        age_s = self._mono() - held.fetched_mono
        if held.keys is not None and age_s <= FRESH_S:
            return held.keys
        flight = self._renew(issuer, held)
        if flight is not None and age_s > 2 * FRESH_S and not (held.failed and age_s <= STALE_KEPT_S):
            flight.wait()
        return self._usable(held)

    def refreshed(self, issuer: Issuer) -> KeySet:
        held = self._of(issuer)
        flight = self._renew(issuer, held)
        if flight is not None:
            flight.wait()
        return self._usable(held)

    def drop(self, tenant_id: str) -> None:
        """Forget all of a tenant. Complexity: linear in SETS_MAX, for it is rare."""
        for place in [place for place in self._held if place[0] == tenant_id]:
            self._forget(place)

    def _of(self, issuer: Issuer) -> _Held:
        place = (issuer.tenant_id, issuer.source)
        held = self._held.get(place)
        if held is None:
            while len(self._held) >= SETS_MAX:
                self._forget(next(iter(self._held)))
            held = self._held[place] = _Held()
        self._held.move_to_end(place)
        return held

    def _forget(self, place: tuple[str, bytes]) -> None:
        self._keys_held -= len(self._held.pop(place).keys or ())

    def _usable(self, held: _Held) -> KeySet:
        if held.keys is not None and self._mono() - held.fetched_mono <= STALE_KEPT_S:
            return held.keys
        raise GatewayError(
            "identity-unavailable",
            "Tokens of this issuer cannot be checked right now.",
            internal=f"its key set was never fetched, or too long ago: {held.failed}",
            fields=((b"Retry-After", b"%d" % REFRESH_GAP_S),),
        )

    def _renew(self, issuer: Issuer, held: _Held) -> AsyncResult[None] | None:
        """Give the fetch under way, begun now where none is and one may begin; None where none may."""
        if held.flight is None and self._mono() - held.tried_mono >= REFRESH_GAP_S:
            held.tried_mono = self._mono()
            held.flight = AsyncResult()
            gevent.spawn(self._fly, issuer, held, held.flight)
        return held.flight

    def _fly(self, issuer: Issuer, held: _Held, flight: AsyncResult[None]) -> None:
        """Fetch for all who wait. A greenlet of its own, because a request's may end at any moment."""
        try:
            self._fetch(issuer, held)
        except (FetchFailed, KeySetError) as error:
            self._fail(issuer, held, str(error))
        except Exception:
            _LOG.exception("the key set of issuer %s of tenant %s", issuer.id, issuer.tenant_id)
            self._fail(issuer, held, "our fault")
        finally:
            held.flight = None
            flight.set(None)

    def _fail(self, issuer: Issuer, held: _Held, reason: str) -> None:
        self.errors_total += 1
        held.failed = reason
        _LOG.warning("the key set of issuer %s of tenant %s: %s", issuer.id, issuer.tenant_id, reason)

    def _fetch(self, issuer: Issuer, held: _Held) -> None:
        assert issuer.jwks_uri is not None
        accept = ((b"Accept", b"application/json"),)
        got = fetch(self._upstream, issuer.tenant_id, issuer.jwks_uri, fields=accept, timeout_s=TIMEOUT_S)
        if got.status != 200:
            raise KeySetError(f"status {got.status}")
        document = hashlib.sha256(got.body).digest()
        if held.keys is None or document != held.document:
            self._take(issuer, held, parse_jwks(got.body, issuer.algorithms), document)
        held.fetched_mono = self._mono()
        held.failed = ""

    def _take(self, issuer: Issuer, held: _Held, keys: KeySet, document: bytes) -> None:
        before = len(held.keys or ())
        held.keys, held.document = keys, document
        place = (issuer.tenant_id, issuer.source)
        if self._held.get(place) is not held:
            return  # dropped or crowded out meanwhile: good for those who wait, and kept by nobody
        self._keys_held += len(keys) - before
        self._held.move_to_end(place)
        while self._keys_held > KEYS_MAX:
            self._forget(next(iter(self._held)))
