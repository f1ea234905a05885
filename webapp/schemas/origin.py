"""An origin and its targets as they are given and shown.

Laws:  1. `url` alone means one target; with `targets` given, `url` is the first of them. 2. The form of every URL is
       checked here (contracts.addresses); whether its address is allowed, in services.origins. 3. A client key goes in
       and never comes out. Of `tls`, a patch changes the members it names; null clears one.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from contracts import bounds
from contracts.addresses import AddressError, parse_origin_url, parse_server_name
from contracts.certificates import CertificateError, canonical_key, read_certificates, write_certificates
from contracts.patterns import PathError, normalise_path
from webapp.schemas.base import Input, Name, Patch, View, absent, wrong
from webapp.schemas.paging import PageQuery


def _url(text: str) -> str:
    try:
        return str(parse_origin_url(text))
    except AddressError as error:
        raise ValueError(str(error)) from None


def _probe_path(text: str) -> str:
    """A path and a query, as they go into a request line."""
    path, _, _query = text.partition("?")
    if not text.isascii() or any(character <= " " or character == "\x7f" for character in text) or "#" in text:
        raise ValueError("must be ASCII without spaces or a fragment")
    try:
        normalise_path(path.encode("ascii"))
    except PathError as error:
        raise ValueError(str(error)) from None
    return text


def _server_name(text: str) -> str:
    try:
        return parse_server_name(text)
    except AddressError as error:
        raise ValueError(str(error)) from None


def _certificates(certificates_max: int) -> Callable[[str], str]:
    def canonical(pem: str) -> str:
        try:
            return write_certificates(read_certificates(pem, certificates_max))
        except CertificateError as error:
            raise ValueError(str(error)) from None

    return canonical


def _key(pem: str) -> str:
    try:
        return canonical_key(pem)
    except CertificateError as error:
        raise ValueError(str(error)) from None


OriginUrlText = Annotated[str, StringConstraints(min_length=1, max_length=bounds.URL_CHARS_MAX), AfterValidator(_url)]
ProbePath = Annotated[
    str, StringConstraints(min_length=1, max_length=bounds.PATTERN_CHARS_MAX), AfterValidator(_probe_path)
]
Seconds = Annotated[float, Field(ge=bounds.ORIGIN_TIMEOUT_S_MIN, le=bounds.ORIGIN_TIMEOUT_S_MAX)]
LoadBalancing = Literal["round_robin"]
ServerName = Annotated[str, StringConstraints(min_length=1, max_length=253), AfterValidator(_server_name)]
Pem = Annotated[str, StringConstraints(min_length=1, max_length=bounds.PEM_CHARS_MAX)]
CaCertificates = Annotated[Pem, AfterValidator(_certificates(bounds.CA_CERTIFICATES_MAX))]
ClientChain = Annotated[Pem, AfterValidator(_certificates(bounds.CLIENT_CHAIN_MAX))]
ClientKey = Annotated[Pem, AfterValidator(_key)]


class TargetNew(Input):
    url: OriginUrlText
    weight: Annotated[int, Field(ge=bounds.TARGET_WEIGHT_MIN, le=bounds.TARGET_WEIGHT_MAX)] = 1


def _secret() -> Any:
    """The default of a member that is in no answer and no repr."""
    return Field(default=None, repr=False, json_schema_extra={"writeOnly": True})


class TlsNew(Input):
    """How https targets are verified, where the system's roots and the URL's host do not do."""

    ca_certificates: CaCertificates | None = None
    """PEM, one or more: trusted instead of the system's roots."""
    server_name: ServerName | None = None
    """Sent as SNI and verified, instead of the URL's host."""
    client_certificate: ClientChain | None = None
    """PEM, the leaf first: shown to origins that ask for one."""
    client_key: ClientKey | None = _secret()
    """PEM, not encrypted. It is stored sealed and never given back."""

    @property
    def is_empty(self) -> bool:
        return self.ca_certificates is None and self.server_name is None and self.client_certificate is None

    @model_validator(mode="after")
    def _key_of_something(self) -> Self:
        if self.client_key is not None and self.client_certificate is None:
            raise wrong("client_certificate", "must be given with the client key")
        return self


class TlsPatch(Patch):
    ca_certificates: CaCertificates | None = absent()
    server_name: ServerName | None = absent()
    client_certificate: ClientChain | None = absent()
    """null takes the key away too."""
    client_key: ClientKey = _secret()


class TlsView(View):
    """Without the client key, which is there when client_certificate is."""

    ca_certificates: str | None = None
    server_name: str | None = None
    client_certificate: str | None = None
    client_certificate_expires_at: datetime | None = None


Targets = Annotated[tuple[TargetNew, ...], Field(min_length=1, max_length=bounds.TARGETS_PER_ORIGIN_MAX)]


class OriginNew(Input):
    tenant_id: UUID | None = None
    """May be left out: it is always the caller's tenant."""
    name: Name
    url: OriginUrlText | None = None
    """Of the first target. Give `url` or `targets`."""
    targets: Targets | None = None
    health_check_path: ProbePath | None = None
    timeout_seconds: Seconds = float(bounds.ORIGIN_TIMEOUT_S_DEFAULT)
    """To the first byte of the response."""
    connect_timeout_seconds: Annotated[float, Field(ge=0.1, le=60)] = 5.0
    load_balancing: LoadBalancing = "round_robin"
    tls: TlsNew | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.url is None and self.targets is None:
            raise wrong("url", "url or targets must be given")
        if self.url is not None and self.targets is not None and self.targets[0].url != self.url:
            raise wrong("url", "must be left out or be the first target's")
        if self.targets is not None and len({target.url for target in self.targets}) != len(self.targets):
            raise wrong("targets", "must not name a URL twice")
        if self.tls is not None and not self.tls.is_empty:
            for index, target in enumerate(self.all_targets):
                if not target.url.startswith("https://"):
                    where = "url" if self.targets is None else f"targets.{index}.url"
                    raise wrong(where, "must be https, because the origin has TLS settings")
        return self

    @property
    def all_targets(self) -> tuple[TargetNew, ...]:
        return self.targets if self.targets is not None else (TargetNew(url=self.url or ""),)


class OriginPatch(Patch):
    name: Name = absent()
    url: OriginUrlText = absent()
    """Replaces the first target's URL."""
    targets: Targets = absent()
    """Replaces them all."""
    health_check_path: ProbePath | None = absent()
    timeout_seconds: Seconds = absent()
    connect_timeout_seconds: Annotated[float, Field(ge=0.1, le=60)] = absent()
    load_balancing: LoadBalancing = absent()
    tls: TlsPatch | None = absent()
    """null clears them all."""


class OriginQuery(PageQuery):
    name: Name | None = None
    """Only the origin of this very name."""


class TargetView(View):
    id: UUID
    url: str
    weight: int
    healthy: bool | None
    """None until the first probe."""
    health_reason: str | None
    health_since: datetime | None
    health_latency_ms: float | None


class OriginView(View):
    id: UUID
    tenant_id: UUID
    name: str
    url: str
    targets: tuple[TargetView, ...]
    health_check_path: str | None
    timeout_seconds: float
    connect_timeout_seconds: float
    load_balancing: LoadBalancing
    tls: TlsView | None
    row_version: int
    created_at: datetime
    updated_at: datetime
