"""The public keys of the Clerk instance, fetched rarely and never by many at once.

In:    the address of a JWKS, or one PEM key (then nothing is ever fetched).
Out:   kid -> key.
Laws:  1. Fresh for 5 minutes; a set that cannot be renewed is used for 24 hours, then nobody is believed (503, not
       401). 2. One fetch at a time; whoever holds a stale set uses it meanwhile. 3. A forged token makes at most one
       fetch in 10 s. 4. A fetch takes 3 s at most, follows no redirect, reads 64 KiB at most.
Not here: what a key is good for (contracts.clerk).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

import requests
import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from contracts.clerk import KeySetError, parse_keyset

FRESH_S: Final = 300.0
STALE_S: Final = 86_400.0
FORCED_EVERY_S: Final = 10.0
FETCH_TIMEOUT_S: Final = 3.0
DOCUMENT_BYTES_MAX: Final = 65_536
_log = structlog.get_logger(__name__)

Keys = Mapping[str, RSAPublicKey]


class KeysUnavailable(Exception):
    """No key set was ever loaded, or the last one is too old: nobody can be believed or refused."""


class KeySet:
    """The keys behind one JWKS address. Threads may share it."""

    def __init__(
        self,
        url: str,
        fetch: Callable[[str], bytes] | None = None,
        clock_mono: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._fetch = fetch or fetch_document
        self._clock_mono = clock_mono
        self._fetching = threading.Lock()
        self._keys: Keys | None = None
        self._fetched_mono = 0.0
        self._tried_mono: float | None = None

    def __repr__(self) -> str:
        return f"<KeySet {self._url} keys={len(self._keys or ())}>"

    def keys(self) -> Keys:
        """Raises KeysUnavailable. Blocks on a fetch when nothing usable is held."""
        now_mono = self._clock_mono()
        held = self._keys
        if held is not None and now_mono - self._fetched_mono < FRESH_S:
            return held
        usable = held is not None and now_mono - self._fetched_mono < STALE_S
        if self._fetching.acquire(blocking=not usable):
            try:
                if self._may_try(FORCED_EVERY_S if usable else 1.0):
                    self._renew()
            finally:
                self._fetching.release()
        held = self._keys
        if held is None or self._clock_mono() - self._fetched_mono >= STALE_S:
            raise KeysUnavailable
        return held

    def renewed(self) -> Keys | None:
        """Fetch for a kid or a signature that does not fit; None when that was tried a moment ago."""
        with self._fetching:
            if not self._may_try(FORCED_EVERY_S):
                return None
            return self._keys if self._renew() else None

    def _may_try(self, every_s: float) -> bool:
        # Another thread may have renewed it while we waited for the lock.
        tried = self._tried_mono
        return tried is None or self._clock_mono() - tried >= every_s

    def _renew(self) -> bool:
        self._tried_mono = self._clock_mono()
        try:
            keys = parse_keyset(self._fetch(self._url))
        except (KeySetError, requests.RequestException, OSError) as error:
            _log.warning("keyset.unavailable", url=self._url, reason=f"{type(error).__name__}: {error}"[:200])
            return False
        self._keys, self._fetched_mono = keys, self._clock_mono()
        return True


def fetch_document(url: str) -> bytes:
    """Raises requests.RequestException, KeySetError."""
    with requests.get(url, timeout=FETCH_TIMEOUT_S, allow_redirects=False, stream=True) as response:
        if response.status_code != 200:
            raise KeySetError(f"the answer was {response.status_code}")
        body = b""
        for chunk in response.iter_content(8_192):
            body += chunk
            if len(body) > DOCUMENT_BYTES_MAX:
                raise KeySetError(f"the document is larger than {DOCUMENT_BYTES_MAX} bytes")
        return body
