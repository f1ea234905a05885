"""Fields of an API key that are more than a word: the networks it may be used from, and its own limits.

Laws:  1. A network is kept in its canonical form; IPv4 in IPv6's clothes is kept as IPv4, as the edge compares it. 2. A
       key's limits have no scope: they count for the key, whichever route it is used on.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from contracts import bounds
from webapp.schemas.base import no_duplicates, wrong
from webapp.schemas.route import RateLimit

_MAPPED_PREFIX = 96


def network(text: str) -> str:
    """Give a network or an address in its canonical CIDR form. Raises ValueError."""
    try:
        found = ipaddress.ip_network(text)
    except ValueError:
        raise ValueError("must be an address or a network like 192.0.2.0/24 (host bits must be zero)") from None
    if found.version == 6 and found.network_address.scope_id is not None:
        raise ValueError("must not name a zone")
    if found.version == 6 and found.prefixlen >= _MAPPED_PREFIX:
        mapped = found.network_address.ipv4_mapped
        if mapped is not None:
            return f"{mapped}/{found.prefixlen - _MAPPED_PREFIX}"
    return str(found)


_Network = Annotated[str, StringConstraints(min_length=2, max_length=64), AfterValidator(network)]
Addresses = Annotated[tuple[_Network, ...], Field(max_length=bounds.KEY_ADDRESSES_MAX), AfterValidator(no_duplicates)]


class KeyRateLimit(RateLimit):
    """{requests_per_second, burst}, or {policies: [...]} without a scope."""

    @model_validator(mode="after")
    def _of_the_key(self) -> Self:
        if self.policies is not None:
            if len(self.policies) > bounds.POLICIES_PER_KEY_MAX:
                raise wrong("policies", f"must be at most {bounds.POLICIES_PER_KEY_MAX}")
            if any("scope" in policy.model_fields_set for policy in self.policies):
                raise wrong("policies", "of a key have no scope: they count for the key alone")
        return self
