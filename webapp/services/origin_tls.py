"""An origin's TLS settings as they are stored: checked against the clock and each other, the client key sealed.

In:    schemas.origin.TlsNew (every PEM parsed and canonical), what the row holds, who the origin is.
Out:   the document of `origins.tls`; Invalid naming the field; the part of the snapshot.
Laws:  1. A client key leaves this module sealed or not at all, bound to its tenant and origin. 2. A certificate and its
       key come and go together and fit. 3. A certificate is refused for its age only when it is new: one that expired
       since must not stand in the way of other changes. 4. A key sealed under an older sealing key is sealed anew
       whenever its origin is written.
Not here: PEM (contracts.certificates), ciphers (contracts.sealing), connections (edge.net.origin_tls,
          worker.origin_tls).
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from contracts import certificates, sealing, snapshot
from webapp.extensions import current_settings
from webapp.schemas.origin import TlsNew
from webapp.services.errors import Invalid

Stored = dict[str, Any]
_SEALED: Final = "client_key_sealed"
_EXPIRES: Final = "client_certificate_expires_at"
_GIVEN: Final = ("ca_certificates", "server_name", "client_certificate")


def stored(new: TlsNew | None, held: Mapping[str, Any] | None, tenant_id: UUID, origin_id: UUID) -> Stored | None:
    """Give what the row is to hold. Raises Invalid."""
    if new is None or new.is_empty:
        return None
    held = held or {}
    made: Stored = {name: value for name in _GIVEN if (value := getattr(new, name)) is not None}
    if new.ca_certificates is not None and new.ca_certificates != held.get("ca_certificates"):
        _check_authorities(new.ca_certificates)
    chain = new.client_certificate
    if chain is not None:
        if chain != held.get("client_certificate"):
            _check_age(chain)
        made[_EXPIRES] = datetime.fromtimestamp(certificates.lifetime(chain)[1], UTC).isoformat()
        place = snapshot.client_key_place(str(tenant_id), str(origin_id))
        made[_SEALED] = _sealed_key(new, chain, held, place)
    return made


def _check_authorities(pem: str) -> None:
    try:  # by the library that will have to take them
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem)
    except (ssl.SSLError, ValueError):
        raise Invalid.field("tls.ca_certificates", "cannot be used by OpenSSL") from None


def _check_age(chain: str) -> None:
    begins, ends = certificates.lifetime(chain)
    now = time.time()
    if ends <= now:
        raise Invalid.field("tls.client_certificate", f"expired on {datetime.fromtimestamp(ends, UTC):%Y-%m-%d}")
    if begins > now:
        begins_on = datetime.fromtimestamp(begins, UTC)
        raise Invalid.field("tls.client_certificate", f"is not valid before {begins_on:%Y-%m-%d %H:%M} UTC")


def _sealed_key(new: TlsNew, chain: str, held: Mapping[str, Any], place: bytes) -> str:
    keys = current_settings().sealing_keys
    kept = held.get(_SEALED)
    if new.client_key is None:
        if kept is None:
            raise Invalid.field("tls.client_key", "must be given with the client certificate")
        if chain == held.get("client_certificate") and not _is_outdated(kept, keys):
            return str(kept)
        try:
            key = sealing.open_sealed(keys, kept, place).decode("ascii")
        except sealing.SealError:
            raise Invalid.field("tls.client_key", "must be given again: the stored one cannot be opened") from None
    else:
        key = new.client_key
    if not certificates.key_fits(key, chain):
        raise Invalid.field("tls.client_key", "is not the key of the client certificate (whose leaf must come first)")
    if not keys:
        raise Invalid.field("tls.client_key", "cannot be stored: this deployment has no SEALING_KEYS")
    return sealing.seal(keys, key.encode("ascii"), place, os.urandom(sealing.NONCE_BYTES))


def _is_outdated(sealed: str, keys: sealing.SealingKeys) -> bool:
    """Whether a newer key should seal it, and it can be opened to that end."""
    key_id = sealing.key_id_of(sealed)
    return key_id in keys and key_id != next(iter(keys))


def resealed(held: Mapping[str, Any] | None, tenant_id: UUID, origin_id: UUID) -> Stored | None:
    """Give the document with its key under the newest sealing key; None when it is. Raises SealError."""
    keys = current_settings().sealing_keys
    if held is None or _SEALED not in held or sealing.key_id_of(held[_SEALED]) == next(iter(keys), None):
        return None
    place = snapshot.client_key_place(str(tenant_id), str(origin_id))
    key = sealing.open_sealed(keys, held[_SEALED], place)
    return {**held, _SEALED: sealing.seal(keys, key, place, os.urandom(sealing.NONCE_BYTES))}


def config(held: Mapping[str, Any]) -> snapshot.OriginTlsConfig:
    """Give the snapshot's part."""
    return snapshot.OriginTlsConfig(
        ca_certificates=held.get("ca_certificates"),
        server_name=held.get("server_name"),
        client_certificate=held.get("client_certificate"),
        client_key=held.get(_SEALED),
    )
