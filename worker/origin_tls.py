"""What probes of an origin with TLS settings of its own trust and show: the same as the edge does.

In:    planned targets with a digest of their origin's settings; PostgreSQL, SEALING_KEYS.
Out:   checker.Trust of each; nothing while PostgreSQL is away; Unusable.
Laws:  1. Settings are read from PostgreSQL when their digest is new here, all that a sweep lacks at once. 2. What
       cannot be loaded makes a target unhealthy, never less verified. 3. What is kept is bounded.
Not here: what is stored (webapp.services.origin_tls), the probe (worker.checker).
"""

from __future__ import annotations

import os
import ssl
import tempfile
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from contracts import snapshot
from contracts.sealing import SealingKeys, open_sealed
from webapp.services import origin_tls, origins
from worker import checker
from worker.checker import Trust
from worker.plan import Planned
from worker.stores import settings

_log = structlog.get_logger("worker.origin_tls")
_KEPT_MAX: Final = 256
_Key = tuple[str, str]
_kept: Final[OrderedDict[_Key, Trust | None]] = OrderedDict()
"""(Origin, digest) -> what it trusts; None: it cannot be made."""


class Unusable(Exception):
    """The settings cannot be loaded: no probe can say how the target is."""


def of_all(planned: Iterable[Planned]) -> dict[_Key, Trust | None]:
    """Give what these targets trust, as far as it can be had. Blocks on one query for what is new."""
    wanted = {(target.origin_id, target.tls) for target in planned if target.tls}
    known = {key: _kept[key] for key in wanted if key in _kept}
    missing = wanted - known.keys()
    if missing:
        try:
            found = origins.tls_settings([UUID(origin_id) for origin_id, _ in missing])
        except SQLAlchemyError as error:
            _log.warning("tls settings deferred", reason=type(error).__name__)
            return known
        for key in missing:
            held = found.get(UUID(key[0]))
            if held is not None:
                known[key] = _keep(key, _made(key[0], str(held[0]), held[1]))
    return known


def trust_of(target: Planned, known: Mapping[_Key, Trust | None]) -> Trust | None:
    """Give a target's own trust, None when it has no settings. Raises Unusable, KeyError (not known now)."""
    if not target.tls:
        return None
    trust = known[target.origin_id, target.tls]
    if trust is None:
        raise Unusable
    return trust


def _made(origin_id: str, tenant_id: str, held: Mapping[str, Any]) -> Trust | None:
    config = origin_tls.config(held)
    place = snapshot.client_key_place(tenant_id, origin_id)
    try:
        return Trust(context_of(config, settings().console.sealing_keys, place), config.server_name)
    except (ValueError, OSError) as error:  # SealError and ssl.SSLError among them
        _log.warning("tls settings unusable", tenant_id=tenant_id, origin_id=origin_id, reason=str(error))
        return None


def context_of(config: snapshot.OriginTlsConfig, keys: SealingKeys, place: bytes) -> ssl.SSLContext:
    """Raises ValueError, OSError."""
    context = checker.verifying(config.ca_certificates)
    if config.client_certificate is not None:
        key = open_sealed(keys, config.client_key or "", place)
        with _in_memory(config.client_certificate.encode("ascii") + key) as path:
            context.load_cert_chain(path)
    return context


@contextmanager
def _in_memory(octets: bytes) -> Iterator[str]:
    """As edge.net.origin_tls does: the worker may not import the edge."""
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


def _keep(key: _Key, trust: Trust | None) -> Trust | None:
    _kept[key] = trust
    if len(_kept) > _KEPT_MAX:
        _kept.popitem(last=False)
    return trust
