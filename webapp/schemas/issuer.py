"""An issuer as it is given and shown: who signs or vouches for the tokens that a tenant takes besides Clerk's.

Laws:  1. Signed tokens (jwt, oauth) are verified by exactly one of `jwks_uri` and `public_keys`, for an audience that
       is named; opaque ones (introspection) are asked about. What belongs to the other kind is refused. 2. A client
       secret goes in and never comes out. 3. The kind of an issuer does not change: routes rely on it.
Not here: whether a URL may be fetched (webapp.services.issuers).
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from contracts import bounds
from contracts.addresses import AddressError, parse_document_url
from contracts.public_keys import PublicKeyError, algorithms_of, read_public_keys, write_public_keys
from webapp.schemas.base import Input, Name, Patch, Scope, View, absent, no_duplicates, wrong
from webapp.schemas.paging import PageQuery

IssuerKind = Literal["jwt", "oauth", "introspection"]
Algorithm = Literal["RS256", "PS256", "ES256", "EdDSA"]
_DEFAULT_ALGORITHMS: tuple[Algorithm, ...] = ("RS256",)


def _visible(text: str) -> str:
    if not all("!" <= character <= "~" for character in text):
        raise ValueError("must consist of visible ASCII characters")
    return text


def _url(text: str) -> str:
    try:
        where, target = parse_document_url(text)
    except AddressError as error:
        raise ValueError(str(error)) from None
    return f"{where.scheme}://{where.authority}{target}"


def _public_keys(pem: str) -> str:
    try:
        return write_public_keys(read_public_keys(pem))
    except PublicKeyError as error:
        raise ValueError(str(error)) from None


_Visible = AfterValidator(_visible)
Identifier = Annotated[str, StringConstraints(min_length=1, max_length=bounds.ISSUER_CHARS_MAX), _Visible]
Audience = Annotated[str, StringConstraints(min_length=1, max_length=bounds.AUDIENCE_CHARS_MAX), _Visible]
Audiences = Annotated[tuple[Audience, ...], Field(max_length=bounds.AUDIENCES_MAX), AfterValidator(no_duplicates)]
Algorithms = Annotated[tuple[Algorithm, ...], Field(max_length=4), AfterValidator(no_duplicates)]
DocumentUrl = Annotated[str, StringConstraints(min_length=1, max_length=bounds.URL_CHARS_MAX), AfterValidator(_url)]
PublicKeys = Annotated[
    str, StringConstraints(min_length=1, max_length=bounds.PEM_CHARS_MAX), AfterValidator(_public_keys)
]
Scopes = Annotated[tuple[Scope, ...], Field(max_length=bounds.REQUIRED_SCOPES_MAX), AfterValidator(no_duplicates)]
ClientId = Annotated[str, StringConstraints(min_length=1, max_length=255), _Visible]
ClientSecret = Annotated[
    str, StringConstraints(min_length=1, max_length=bounds.CLIENT_SECRET_CHARS_MAX, strip_whitespace=False), _Visible
]


def _secret() -> Any:
    """The default of a member that is in no answer and no repr."""
    return Field(default=None, repr=False, json_schema_extra={"writeOnly": True})


class IssuerNew(Input):
    tenant_id: UUID | None = None
    """May be left out: it is always the caller's tenant."""
    name: Name
    kind: IssuerKind
    """jwt: signed tokens of users. oauth: access tokens by RFC 9068. introspection: opaque ones, asked by RFC 7662."""
    issuer: Identifier
    """As its tokens have it in `iss`, to the letter."""
    audience: Audiences = ()
    """One of these must be in `aud`."""
    algorithms: Algorithms = ()
    """jwt and oauth: RS256 when left out."""
    jwks_uri: DocumentUrl | None = None
    public_keys: PublicKeys | None = None
    """PEM, one or more: tokens are verified without asking anybody."""
    required_scopes: Scopes = ()
    """Of every token of this issuer, whatever the route asks for."""
    introspection_url: DocumentUrl | None = None
    client_id: ClientId | None = None
    client_secret: ClientSecret | None = _secret()
    """It is stored sealed and never given back."""

    @property
    def effective_algorithms(self) -> tuple[Algorithm, ...]:
        return self.algorithms or (() if self.kind == "introspection" else _DEFAULT_ALGORITHMS)

    @model_validator(mode="after")
    def _fits_kind(self) -> Self:
        if self.kind == "introspection":
            self._refuse("algorithms", "jwks_uri", "public_keys")
            for field in ("introspection_url", "client_id"):
                if getattr(self, field) is None:
                    raise wrong(field, "must be given for an issuer of kind introspection")
            return self
        self._refuse("introspection_url", "client_id", "client_secret")
        if not self.audience:
            raise wrong("audience", f"must be given for an issuer of kind {self.kind}")
        if self.jwks_uri is None and self.public_keys is None:
            raise wrong("jwks_uri", "jwks_uri or public_keys must be given")
        if self.jwks_uri is not None and self.public_keys is not None:
            raise wrong("public_keys", "give jwks_uri or public_keys, not both")
        self._check_keys_fit()
        return self

    def _refuse(self, *fields: str) -> None:
        for field in fields:
            if getattr(self, field):
                raise wrong(field, f"does not go with an issuer of kind {self.kind}")

    def _check_keys_fit(self) -> None:
        if self.public_keys is None:
            return
        wanted, usable = set(self.effective_algorithms), set[str]()
        for key in read_public_keys(self.public_keys):
            fitting = algorithms_of(key) & wanted
            if not fitting:
                raise wrong("public_keys", f"holds a key that is for none of {', '.join(sorted(wanted))}")
            usable |= fitting
        if wanted - usable:
            raise wrong("algorithms", f"name {sorted(wanted - usable)[0]}, for which there is no public key")


class IssuerPatch(Patch):
    name: Name = absent()
    issuer: Identifier = absent()
    audience: Audiences = absent()
    algorithms: Algorithms = absent()
    jwks_uri: DocumentUrl | None = absent()
    public_keys: PublicKeys | None = absent()
    required_scopes: Scopes = absent()
    introspection_url: DocumentUrl = absent()
    client_id: ClientId = absent()
    client_secret: ClientSecret = _secret()
    """Left out, the stored one is kept."""


class IssuerQuery(PageQuery):
    name: Name | None = None
    """Only the issuer of this very name."""


class IssuerView(View):
    """Without the client secret, which is there where the kind is introspection."""

    id: UUID
    tenant_id: UUID
    name: str
    kind: IssuerKind
    issuer: str
    audience: tuple[str, ...]
    algorithms: tuple[Algorithm, ...]
    jwks_uri: str | None
    public_keys: str | None
    required_scopes: tuple[str, ...]
    introspection_url: str | None
    client_id: str | None
    row_version: int
    created_at: datetime
    updated_at: datetime
