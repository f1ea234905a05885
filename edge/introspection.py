"""The issuers of a tenant that are asked about opaque tokens (RFC 7662), compiled for reading.

In:    contracts.snapshot.IssuerConfig and RouteConfig.
Out:   Introspector; the one that a route asks; SnapshotError.
Laws:  1. An opaque token does not say who made it, and whoever is asked learns it: so a route asks exactly one. 2. The
       secret stays sealed here.
Not here: asking (edge.net.introspection), what an answer means (edge.phases.auth.introspection).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import msgspec

from contracts.addresses import AddressError, parse_document_url
from contracts.snapshot import IssuerConfig, RouteConfig, SnapshotError, issuer_secret_place


class Introspector:
    """`digest`: equal when, and only when, what was said under one configuration may be believed under the other."""

    __slots__ = (
        "audience", "client_id", "client_secret", "client_secret_place", "digest", "id", "issuer", "required_scopes",
        "url",
    )  # fmt: skip

    def __init__(self, config: IssuerConfig, tenant_id: str) -> None:
        if not (config.introspection_url and config.client_id and config.client_secret):
            # RFC 7662 section 2.1: the endpoint MUST require some form of authorization.
            raise SnapshotError(f"issuer {config.id}: needs introspection_url, client_id and client_secret")
        try:
            parse_document_url(config.introspection_url)
        except AddressError as error:
            raise SnapshotError(f"issuer {config.id}: introspection_url {error}") from None
        self.id = config.id
        self.issuer = config.issuer
        self.audience = frozenset(config.audience)
        self.url = config.introspection_url
        self.client_id = config.client_id
        self.client_secret = config.client_secret
        """Sealed."""
        self.client_secret_place = issuer_secret_place(tenant_id, config.id)
        self.required_scopes = config.required_scopes
        encoded = msgspec.json.encode(config, order="deterministic")
        self.digest = hashlib.sha256(b"%d:%b%b" % (len(encoded), encoded, self.client_secret_place)).hexdigest()

    def __repr__(self) -> str:
        return f"<Introspector {self.issuer} {self.digest[:8]}>"


def introspectors(issuers: Iterable[IssuerConfig], tenant_id: str) -> dict[str, Introspector]:
    """Compile those that are asked, by id. Raises SnapshotError."""
    return {config.id: Introspector(config, tenant_id) for config in issuers if config.kind == "introspection"}


def introspector_of(route: RouteConfig, asked: Mapping[str, Introspector]) -> Introspector | None:
    """Give whom a route that takes opaque tokens asks about them. Raises SnapshotError where it could be several."""
    named = () if route.access is msgspec.UNSET else route.access.issuers
    chosen = [found for issuer_id, found in asked.items() if not named or issuer_id in named]
    if len(chosen) > 1:
        raise SnapshotError(
            f"route {route.id}: an opaque token does not say which of the issuers "
            f"{', '.join(found.id for found in chosen)} made it, and only one may be asked: "
            "access.issuers must name at most one of kind introspection"
        )
    return chosen[0] if chosen else None
