"""Looks at the certificates' folder again and again, in a thread, so that the hub never waits for the disk.

In:    Certificates.
Out:   changes in force within PERIOD_S and the time to load them.
Laws:  1. One look at a time. 2. A look that crashes is logged; the next one comes.
Not here: what a change means (certificates).
"""

from __future__ import annotations

import logging
from typing import Any, Final

import gevent

from edge.net.certificates import Certificates

_LOG: Final = logging.getLogger(__name__)
PERIOD_S: Final = 2.0


class CertificateWatch:
    def __init__(self, certificates: Certificates, period_s: float = PERIOD_S) -> None:
        self._certificates = certificates
        self._period_s = period_s
        self._watching: Any = None

    def start(self) -> None:
        self._watching = gevent.spawn(self._watch)

    def stop(self) -> None:
        if self._watching is not None:
            self._watching.kill()

    def _watch(self) -> None:
        threads = gevent.get_hub().threadpool
        while True:
            gevent.sleep(self._period_s)
            try:
                threads.apply(self._certificates.scan)
            except Exception:
                _LOG.exception("the certificates could not be looked at")
