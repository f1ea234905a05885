"""Fields of an API key that are more than a word: the networks it may be used from, and its own limits.

Laws:  1. A key's limits have no scope: they count for the key, whichever route it is used on.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from contracts import bounds
from webapp.schemas.access import Network
from webapp.schemas.base import no_duplicates, wrong
from webapp.schemas.limits import RateLimit

Addresses = Annotated[tuple[Network, ...], Field(max_length=bounds.KEY_ADDRESSES_MAX), AfterValidator(no_duplicates)]


class KeyRateLimit(RateLimit):
    """{requests_per_second, burst}, or {policies: [...]} without a scope."""

    of_key = True

    @model_validator(mode="after")
    def _of_the_key(self) -> Self:
        if self.policies is not None:
            if len(self.policies) > bounds.POLICIES_PER_KEY_MAX:
                raise wrong("policies", f"must be at most {bounds.POLICIES_PER_KEY_MAX}")
            if any("scope" in policy.model_fields_set for policy in self.policies):
                raise wrong("policies", "of a key have no scope: they count for the key alone")
        return self
