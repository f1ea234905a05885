"""Believing a signed request: who signed it, that it says what they signed, and that it comes for the first time.

In:    a request whose Signature-Input has our label; the tenant's services; their secrets; the nonces of all workers.
Out:   Principal; exchange.content_digest where the body still arrives; GatewayError credentials-invalid,
       identity-unavailable, digest-mismatch.
Laws:  1. A service of another tenant, unknown, expired, or calling from elsewhere gets the answer of a wrong signature;
       an unknown one costs as much time as a known one. 2. Nothing is asked of a store, and no body is hashed, before
       the signature is right. 3. A body that is here is checked before the nonce is used up: what broke on its way may
       come again. 4. A secret that was replaced is believed to the second its grace ends.
Not here: what must be signed, and how (edge.http.signatures); holding a body to its digest (edge.http.digests).
"""

from __future__ import annotations

from typing import Final

from edge.exchange import Exchange, Principal
from edge.http import signatures
from edge.http.digests import ContentDigest, mismatch
from edge.http.signatures import Claim, SignatureError
from edge.http.structured import StructuredError
from edge.issuers import Signer
from edge.phases.auth.credential import Credential
from edge.phases.auth.refusals import invalid
from edge.ports import Nonces, Secrets
from edge.snapshot import Route, Tenant

_SECRETS: Final = 2
_NOBODYS: Final = (bytes(32), bytes(32))
"""What is computed for nobody, so that it takes as long; never believed."""


class SignatureVerifier:
    __slots__ = ("_nonces", "_secrets")

    def __init__(self, secrets: Secrets, nonces: Nonces) -> None:
        self._secrets = secrets
        self._nonces = nonces

    def verify(self, credential: Credential, exchange: Exchange, tenant: Tenant, route: Route) -> Principal:
        """Raises GatewayError. Blocks on Redis once, for the nonce of a request that is right in all else."""
        head, now = exchange.head, exchange.received_at
        try:
            claim = signatures.read(head.section)
            signatures.check_covered(claim, head)
            signatures.check_time(claim, now)
            base = signatures.base(claim.components, claim.parameters, head, exchange.scheme)
        except SignatureError as error:
            raise invalid(tenant, route, str(error)) from None
        signer = tenant.signers.get(claim.key_id)
        live = self._live(signer, now)
        fits = signatures.is_made_by(base, claim.mac, (*live, *live)[:_SECRETS] or _NOBODYS)
        if signer is None or not live:
            raise invalid(tenant, route, "no service that signs has this key id")
        if not fits:
            raise invalid(tenant, route, f"wrong signature of service {signer.id}")
        if signer.expires_at is not None and now >= signer.expires_at:
            raise invalid(tenant, route, f"service {signer.id} expired")
        if not signer.may_call_from(exchange.client_ip):
            raise invalid(tenant, route, f"service {signer.id} may not call from this address")
        self._hold_body(claim, exchange, tenant, route)
        if not self._nonces.take(tenant.id, claim.key_id, claim.nonce):
            raise invalid(tenant, route, f"replay of a request of service {signer.id}")
        principal: Principal | None = signer.principal
        if principal is None:
            principal = signer.principal = Principal("service", signer.id, signer.scopes)
        return principal

    def _live(self, signer: Signer | None, now: float) -> tuple[bytes, ...]:
        """Give the secrets that are believed now; none of an unknown service."""
        if signer is None:
            return ()
        ends = signer.previous_until
        believed = signer.secrets[: 1 if ends is None or now >= ends else _SECRETS]
        return tuple(self._secrets.opened(sealed, signer.place) for sealed in believed)

    @staticmethod
    def _hold_body(claim: Claim, exchange: Exchange, tenant: Tenant, route: Route) -> None:
        """Check a body that is here; have one that still arrives checked on its way."""
        if "content-digest" not in claim.components:
            return
        try:
            wanted = ContentDigest(exchange.head.section.index[b"content-digest"][0])
        except StructuredError as error:
            raise invalid(tenant, route, f"Content-Digest: {error}") from None
        body = exchange.body
        if body is None or isinstance(body, bytes):
            if not wanted.fits(body or b""):
                raise mismatch()
        else:
            exchange.content_digest = wanted
