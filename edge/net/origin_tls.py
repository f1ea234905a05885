"""TLS contexts for origins that have settings of their own: one per distinct configuration, made at its first use.

In:    snapshot.OriginTls, the deployment's sealing keys.
Out:   an SSLContext that verifies chain and name by TLS 1.2 or later; GatewayError when it cannot be made.
Laws:  1. Nothing here can make a connection less secure than without: what cannot be loaded ends the attempt. 2. A
       private key is opened here and nowhere else, lives in memory that has no name in a file system, and is in no
       message. 3. Contexts are bounded; one that was thrown away is made again.
Not here: the name that is verified (connecting), which connections may be shared (upstream: per tenant, URL and
          configuration).
"""

from __future__ import annotations

import os
import re
import ssl
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Final

from contracts.sealing import SealError, SealingKeys, open_sealed
from edge.errors import GatewayError, Retry, Source
from edge.snapshot import OriginTls

_CONTEXTS_MAX: Final = 512


@lru_cache(maxsize=1)
def default_context() -> ssl.SSLContext:
    """Verify against the system's roots. Loading them takes milliseconds: done once, at the first https origin."""
    return _verifying(None)


def _verifying(ca_certificates: str | None, capath: str | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=ca_certificates, capath=capath)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


@lru_cache(maxsize=1)
def _roots_by_name() -> str | None:
    """Give the folder of the system's roots by the hash of their names, if it holds all of them.

    OpenSSL reads from it the one root that it needs, at the handshake: a context costs 40 KB and half a millisecond
    instead of 900 KB and many milliseconds. None: there is no such folder; the whole bundle is loaded.
    """
    paths = ssl.get_default_verify_paths()
    if not paths.capath:
        return None
    folder = Path(paths.capath).resolve()
    if paths.cafile:
        bundle = Path(paths.cafile).resolve()
        if bundle != Path(paths.openssl_cafile).resolve() or bundle.parent != folder:
            return None  # the operator chose a bundle (SSL_CERT_FILE), or it is not made of what is in the folder
    hashed = any(re.fullmatch(r"[0-9a-f]{8}\.0", entry.name) for entry in folder.iterdir())
    return str(folder) if hashed else None


class OriginContexts:
    def __init__(self, keys: SealingKeys) -> None:
        self._keys = keys
        self._contexts: OrderedDict[str, ssl.SSLContext] = OrderedDict()

    def of(self, tls: OriginTls) -> ssl.SSLContext:
        """Blocks for milliseconds the first time. Raises GatewayError(origin-unreachable)."""
        if tls.ca_certificates is None and tls.client_certificate is None:
            return default_context()
        context = self._contexts.get(tls.digest)
        if context is None:
            try:
                context = self._make(tls)
            except (ValueError, OSError) as error:  # SealError and ssl.SSLError among them
                raise GatewayError(
                    "origin-unreachable", "No secure connection to the origin could be made.",
                    internal=f"its TLS settings cannot be used: {error}", source=Source.GATEWAY, retry=Retry.NEVER,
                    proxy_error="proxy_configuration_error",
                ) from None  # fmt: skip
            self._contexts[tls.digest] = context
            if len(self._contexts) > _CONTEXTS_MAX:
                self._contexts.popitem(last=False)
        else:
            self._contexts.move_to_end(tls.digest)
        return context

    def _make(self, tls: OriginTls) -> ssl.SSLContext:
        context = _verifying(tls.ca_certificates, None if tls.ca_certificates else _roots_by_name())
        if tls.client_certificate is not None:
            if tls.client_key is None:
                raise SealError("the client certificate has no key")
            key = open_sealed(self._keys, tls.client_key, tls.client_key_place)
            with _in_memory(tls.client_certificate.encode("ascii") + key) as path:
                context.load_cert_chain(path)
        return context

    def __repr__(self) -> str:
        return f"<OriginContexts {len(self._contexts)}>"


@contextmanager
def _in_memory(octets: bytes) -> Iterator[str]:
    """Give a path that OpenSSL can read, since it takes a private key in no other way; gone afterwards.

    On Linux it is memory without a name; elsewhere a file that only we can read.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("origin-tls", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, octets)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        with tempfile.NamedTemporaryFile() as file:
            file.write(octets)
            file.flush()
            yield file.name
