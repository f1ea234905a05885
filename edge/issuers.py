"""Who else may say who calls, compiled for reading: a tenant's own issuers, and the machines it lets in.

In:    contracts.snapshot.IssuerConfig and ServiceConfig, already validated by the control plane.
Out:   Issuer, Machine, Signer.
Laws:  1. What was found out under an issuer's `place` (believed tokens) or `source` (fetched keys) is good for another
       only when that is equal: no two tenants' are, and a change of what it depends on makes a new one. 2. PEM keys
       are read here, once: such an issuer needs no network. 3. A machine is one that Clerk knows, a signer
       one that signs its requests: neither passes for the other.
Not here: fetching keys (edge.net.issuer_keys), believing (edge.phases.auth), opaque tokens.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from contracts.keysets import KeySet, KeySetError, parse_pem_keys
from contracts.networks import NetworkError, Networks
from contracts.snapshot import IssuerConfig, ServiceConfig, SnapshotError, service_secret_place
from contracts.tokens import Form, Terms


class Issuer:
    """One authority of one tenant whose signed tokens it takes. `pinned`: its keys, where they came as PEM."""

    __slots__ = (
        "algorithms", "id", "issuer", "jwks_uri", "kind", "name", "pinned", "place", "required_scopes", "source",
        "tenant_id", "terms",
    )  # fmt: skip

    def __init__(self, config: IssuerConfig, tenant_id: str) -> None:
        self.tenant_id = tenant_id
        self.id = config.id
        self.name = config.name
        self.kind = config.kind
        self.issuer = config.issuer
        self.jwks_uri = config.jwks_uri
        self.algorithms = config.algorithms
        self.required_scopes = config.required_scopes
        form: Form = "user" if config.kind == "jwt" else "access"
        self.terms = Terms(form, config.issuer, config.algorithms, config.audience)
        self.pinned: KeySet | None = None
        if config.public_keys is not None:
            try:
                self.pinned = parse_pem_keys(config.public_keys, config.algorithms)
            except KeySetError as error:
                raise SnapshotError(f"issuer {config.id}: public_keys: {error}") from None
        elif config.jwks_uri is None:
            raise SnapshotError(f"issuer {config.id} has neither jwks_uri nor public_keys")
        self.place = _digest(tenant_id, msgspec.to_builtins(config))
        self.source = _digest(tenant_id, config.id, config.jwks_uri, config.algorithms)

    def __repr__(self) -> str:
        return f"<Issuer {self.name} {self.kind}>"


class Machine:
    """A machine that Clerk knows, as a tenant lets it in. `networks`: where it may call from; empty: anywhere."""

    __slots__ = ("expires_at", "id", "networks", "principal", "scopes")

    def __init__(self, config: ServiceConfig) -> None:
        self.id = config.id
        self.scopes = config.scopes
        self.expires_at = config.expires_at
        try:
            self.networks = Networks(config.addresses)
        except NetworkError as error:
            raise SnapshotError(f"service {config.id}: addresses: {error}") from None
        self.principal: Any = None
        """Memory of phases.auth: the one principal it is."""

    def may_call_from(self, client_ip: str) -> bool:
        """`client_ip` as the connection or a trusted proxy told it, so that it parses."""
        return not self.networks or self.networks.holding(client_ip) is not None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"


class Signer(Machine):
    """A service that signs its requests. `secrets`: sealed, belonging to `place`, newest first; the second one ends at
    `previous_until`."""

    __slots__ = ("place", "previous_until", "secrets")

    def __init__(self, config: ServiceConfig, tenant_id: str) -> None:
        super().__init__(config)
        self.secrets = config.secrets
        self.previous_until = config.previous_until
        self.place = service_secret_place(tenant_id, config.id)


def _digest(*parts: object) -> bytes:
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).digest()


def compile_issuers(configs: tuple[IssuerConfig, ...], tenant_id: str) -> dict[tuple[str, str], Issuer]:
    """Give the issuers of signed tokens by kind (jwt, oauth) and `iss`. Raises SnapshotError."""
    found: dict[tuple[str, str], Issuer] = {}
    for config in configs:
        if config.kind != "introspection":
            found.setdefault((config.kind, config.issuer), Issuer(config, tenant_id))
    return found


def compile_machines(configs: tuple[ServiceConfig, ...]) -> dict[str, Machine]:
    """Give the machines Clerk knows by their `mch_...`. Raises SnapshotError."""
    return {config.key_id: Machine(config) for config in configs if config.kind == "clerk_machine"}


def compile_signers(configs: tuple[ServiceConfig, ...], tenant_id: str) -> dict[str, Signer]:
    """Give the services that sign their requests by key id. Raises SnapshotError."""
    return {config.key_id: Signer(config, tenant_id) for config in configs if config.kind == "hmac"}
