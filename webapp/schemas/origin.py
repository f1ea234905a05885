"""An origin and its targets as they are given and shown.

Laws:  1. `url` alone means one target; with `targets` given, `url` is the first of them. 2. The form of every URL is
       checked here (contracts.addresses); whether its address is allowed, in services.origins.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from contracts import bounds
from contracts.addresses import AddressError, parse_origin_url
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


OriginUrlText = Annotated[str, StringConstraints(min_length=1, max_length=bounds.URL_CHARS_MAX), AfterValidator(_url)]
ProbePath = Annotated[
    str, StringConstraints(min_length=1, max_length=bounds.PATTERN_CHARS_MAX), AfterValidator(_probe_path)
]
Seconds = Annotated[float, Field(ge=bounds.ORIGIN_TIMEOUT_S_MIN, le=bounds.ORIGIN_TIMEOUT_S_MAX)]
LoadBalancing = Literal["round_robin"]


class TargetNew(Input):
    url: OriginUrlText
    weight: Annotated[int, Field(ge=bounds.TARGET_WEIGHT_MIN, le=bounds.TARGET_WEIGHT_MAX)] = 1


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

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.url is None and self.targets is None:
            raise wrong("url", "url or targets must be given")
        if self.url is not None and self.targets is not None and self.targets[0].url != self.url:
            raise wrong("url", "must be left out or be the first target's")
        if self.targets is not None and len({target.url for target in self.targets}) != len(self.targets):
            raise wrong("targets", "must not name a URL twice")
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
    row_version: int
    created_at: datetime
    updated_at: datetime
