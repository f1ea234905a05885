"""Asks issuers and Clerk about opaque tokens, and remembers for a moment what they said (ports.TokenCheck).

In:    a token and whom to ask; the deployment's sealing keys and its secrets at Clerk.
Out:   TokenStatus; GatewayError identity-unavailable, tenant-overloaded.
Laws:  1. What was said is remembered by tenant, authority, its whole configuration and the token's sha256: never the
       token. Active ones ACTIVE_S from the moment they were asked about and never past their end, others REFUSED_S; of
       an error nothing. 2. One question per token at a time, ASKING_MAX per tenant. 3. A tenant's issuer is reached by
       the guarded way out of that tenant, Clerk by the operator's. 4. An authority that keeps failing is left alone for
       a while; tenants never share a breaker but Clerk's. 5. That it refuses our own credentials is our fault and its
       silence nobody's: 503, never 401. 6. Everything remembered is bounded, by tenant and altogether.
Not here: what is asked and what an answer means (edge.phases.auth.introspection), time and scopes (opaque).
"""

from __future__ import annotations

import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import gevent
from gevent.event import AsyncResult

from contracts.sealing import SealError, SealingKeys, open_sealed
from edge.breaker import Breaker, BreakerPolicy
from edge.errors import GatewayError
from edge.introspection import Introspector
from edge.net.fetching import Fetched, FetchFailed, fetch
from edge.phases.auth import introspection as words
from edge.ports import ClerkToken, TokenStatus, Upstream
from edge.settings import ClerkSettings

_LOG: Final = logging.getLogger(__name__)
ACTIVE_S: Final = 30.0
REFUSED_S: Final = 5.0
TIMEOUT_S: Final = 3.0
ASKING_MAX: Final = 32
"""Questions under way, of one tenant in one worker."""
TENANT_WORDS_MAX: Final = 2_000
WORDS_MAX: Final = 10_000
_AUTHORITIES_MAX: Final = 64
"""Breakers kept of one tenant."""
_LOG_EVERY_S: Final = 60.0
BREAKER: Final = BreakerPolicy(calls_min=10, open_s=5.0, open_s_max=60.0)

_Name = tuple[str, bytes]
"""Digest of the authority's configuration, and of the token."""


class _NoAnswer(Exception):
    """Nobody said anything about the token. `outcome`: what it is counted as; the message may be logged."""

    def __init__(self, outcome: str, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome


class _Authority:
    """What is known of one authority under one configuration, besides its words."""

    __slots__ = ("breaker", "digest", "label", "logged_mono", "place")

    def __init__(self, digest: str, label: str, place: str) -> None:
        self.digest = digest
        self.label = label
        """In metrics: ours, never a tenant's."""
        self.place = place
        """In the log."""
        self.breaker = Breaker(BREAKER)
        self.logged_mono = float("-inf")


class _Room:
    """What one tenant takes up here."""

    __slots__ = ("active", "authorities", "flights", "refused")

    def __init__(self) -> None:
        self.active: OrderedDict[_Name, tuple[TokenStatus, float]] = OrderedDict()
        self.refused: OrderedDict[_Name, tuple[TokenStatus, float]] = OrderedDict()
        self.flights: dict[_Name, AsyncResult[TokenStatus | _NoAnswer]] = {}
        self.authorities: dict[str, _Authority] = {}

    def __len__(self) -> int:
        return len(self.active) + len(self.refused)

    def word(self, name: _Name, now_mono: float) -> TokenStatus | None:
        kept = self.active.get(name) or self.refused.get(name)
        return kept[0] if kept is not None and now_mono < kept[1] else None

    def keep(self, name: _Name, status: TokenStatus, until_mono: float, now_mono: float) -> None:
        """A flood of unknown tokens fills the shelf of the refused and pushes out no active one."""
        self.active.pop(name, None)
        self.refused.pop(name, None)
        for shelf in (self.active, self.refused):
            while shelf and next(iter(shelf.values()))[1] <= now_mono:
                shelf.popitem(last=False)
        shelf = self.refused if status.refusal else self.active
        shelf[name] = (status, until_mono)
        if len(shelf) > TENANT_WORDS_MAX // 2:
            shelf.popitem(last=False)

    def forget_some(self) -> None:
        """An eighth, so that whoever has to make room need not do it at every word."""
        for _ in range(len(self) // 8 + 1):
            (self.refused or self.active).popitem(last=False)


class TokenAuthorities:
    """One per worker. `upstream`: the way out of tenants; `operators`: the one to where the operator says."""

    def __init__(
        self,
        upstream: Upstream,
        operators: Upstream,
        clerk: ClerkSettings,
        sealing_keys: SealingKeys,
        mono: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._upstream = upstream
        self._operators = operators
        self._clerk = clerk
        self._sealing_keys = sealing_keys
        self._mono = mono
        self._wall = wall
        self._rooms: dict[str, _Room] = {}
        self.words_held = 0
        self._clerks: dict[ClerkToken, _Authority] = {
            "clerk_access": _Authority("clerk_access", "clerk_access", clerk.api_url),
            "clerk_machine": _Authority("clerk_machine", "clerk_machine", clerk.api_url),
        }
        self.total: dict[tuple[str, str], int] = {}
        """(authority, outcome) -> count. Authority: issuer, clerk_access, clerk_machine."""

    def check(self, tenant_id: str, authority: Introspector | ClerkToken, token: bytes, digest: bytes) -> TokenStatus:
        room = self._rooms.get(tenant_id)
        if room is None:
            room = self._rooms[tenant_id] = _Room()
        asked = self._clerks[authority] if isinstance(authority, str) else _known(room, authority, tenant_id)
        name = (asked.digest, digest)
        now = self._mono()
        status = room.word(name, now)
        if status is not None:
            self._count(asked, "remembered")
            return status
        if isinstance(authority, str) and not self._secret(authority):
            self._count(asked, "not_set")
            return TokenStatus(refusal=f"nobody can ask: {_SETTINGS[authority]} is not set")
        flight = room.flights.get(name)
        if flight is not None:
            self._count(asked, "joined")
        else:
            flight = self._take_off(tenant_id, room, asked, authority, token, name, now)
        said = flight.get()
        if isinstance(said, TokenStatus):
            return said
        raise _unavailable(str(said), asked.breaker.wait_s(self._mono()))

    def drop(self, tenant_id: str) -> None:
        """Forget a tenant; what is being asked for it still gets its answer."""
        room = self._rooms.pop(tenant_id, None)
        if room is not None:
            self.words_held -= len(room)

    @property
    def breakers_open(self) -> int:
        authorities = [*self._clerks.values()]
        for room in list(self._rooms.values()):
            authorities += room.authorities.values()
        return sum(authority.breaker.state != "closed" for authority in authorities)

    # ---- one question

    def _take_off(
        self, tenant_id: str, room: _Room, asked: _Authority, authority: Introspector | ClerkToken, token: bytes,
        name: _Name, now: float,
    ) -> AsyncResult[TokenStatus | _NoAnswer]:  # fmt: skip
        if len(room.flights) >= ASKING_MAX:
            self._count(asked, "crowded")
            raise GatewayError(
                "tenant-overloaded",
                "Too many tokens of this tenant are being checked.",
                internal=f"{ASKING_MAX} introspections under way",
                fields=((b"Retry-After", b"1"),),
            )
        ticket = asked.breaker.enter(now)
        if not ticket:
            self._count(asked, "breaker_open")
            raise _unavailable(f"{asked.place} keeps failing and is left alone", asked.breaker.wait_s(now))
        flight: AsyncResult[TokenStatus | _NoAnswer] = AsyncResult()
        room.flights[name] = flight

        def fly() -> None:  # gevent shows a greenlet's arguments when it fails: a closure has none
            self._fly(tenant_id, room, asked, authority, token, name, ticket)

        gevent.spawn(fly)  # a greenlet of its own, because a request's may end at any moment
        return flight

    def _fly(
        self, tenant_id: str, room: _Room, asked: _Authority, authority: Introspector | ClerkToken, token: bytes,
        name: _Name, ticket: int,
    ) -> None:  # fmt: skip
        said: TokenStatus | _NoAnswer
        answered: bool | None = True
        asked_mono = self._mono()
        try:
            said = self._ended(self._ask(tenant_id, authority, token))
            self._count(asked, "refused" if said.refusal else "active")
            self._keep(tenant_id, room, name, said, asked_mono)
        except _NoAnswer as failure:
            said = failure
            answered = None if failure.outcome == "secret_unusable" else False
            self._complain(asked, failure)
        except Exception as error:
            _LOG.exception("a token could not be asked about")
            said, answered = _NoAnswer("failed", repr(error)), False
        asked.breaker.leave(ticket, self._mono(), succeeded=answered)
        room.flights.pop(name).set(said)

    def _ended(self, said: TokenStatus) -> TokenStatus:
        """What has ended by our clock is refused whatever the authority says, and remembered as such."""
        ended = said.expires_at is not None and said.expires_at <= self._wall()
        return TokenStatus(refusal="the token expired") if ended and not said.refusal else said

    def _ask(self, tenant_id: str, authority: Introspector | ClerkToken, token: bytes) -> TokenStatus:
        """Raises _NoAnswer. Blocks up to TIMEOUT_S."""
        if isinstance(authority, str):
            member, path = _CLERK[authority]
            fields, body = words.clerk_question(self._secret(authority), member, token)
            # All tenants share the connections to Clerk: nobody but the operator says where they lead.
            upstream, tenant_id, url = self._operators, "", self._clerk.api_url + path
        else:
            upstream, url = self._upstream, authority.url
            try:
                secret = open_sealed(self._sealing_keys, authority.client_secret, authority.client_secret_place)
            except SealError as error:
                raise _NoAnswer("secret_unusable", f"its client_secret cannot be used: {error}") from None
            fields, body = words.issuer_question(authority.client_id, secret, token)
        try:
            fetched = fetch(upstream, tenant_id, url, method=b"POST", fields=fields, body=body, timeout_s=TIMEOUT_S)
            return _read(authority, fetched)
        except (FetchFailed, words.UnreadableAnswer) as error:
            raise _NoAnswer("failed", str(error)) from None

    def _secret(self, kind: ClerkToken) -> str:
        clerk = self._clerk
        return (kind == "clerk_machine" and clerk.machine_secret_key) or clerk.secret_key

    # ---- what stays

    def _keep(self, tenant_id: str, room: _Room, name: _Name, said: TokenStatus, asked_mono: float) -> None:
        if self._rooms.get(tenant_id) is not room:
            return  # the tenant was dropped meanwhile
        now = self._mono()
        lasts_s = REFUSED_S if said.refusal else ACTIVE_S
        if said.expires_at is not None:
            lasts_s = min(lasts_s, said.expires_at - self._wall() + now - asked_mono)
        before = len(room)
        room.keep(name, said, asked_mono + lasts_s, now)
        self.words_held += len(room) - before
        if self.words_held > WORDS_MAX:
            fullest = max(self._rooms.values(), key=len)
            before = len(fullest)
            fullest.forget_some()
            self.words_held += len(fullest) - before

    def _count(self, asked: _Authority, outcome: str) -> None:
        name = (asked.label, outcome)
        self.total[name] = self.total.get(name, 0) + 1

    def _complain(self, asked: _Authority, failure: _NoAnswer) -> None:
        """Once a minute for each authority: a flood of requests must not become one of lines."""
        self._count(asked, failure.outcome)
        now_mono = self._mono()
        if now_mono - asked.logged_mono >= _LOG_EVERY_S:
            asked.logged_mono = now_mono
            level = logging.WARNING if failure.outcome == "failed" else logging.ERROR
            _LOG.log(level, "tokens cannot be checked with %s: %s", asked.place, failure)


_CLERK: Final[dict[ClerkToken, tuple[str, str]]] = {
    "clerk_access": ("access_token", "/v1/oauth_applications/access_tokens/verify"),
    "clerk_machine": ("token", "/v1/m2m_tokens/verify"),
}
_SETTINGS: Final[dict[ClerkToken, str]] = {
    "clerk_access": "CLERK_SECRET_KEY",
    "clerk_machine": "CLERK_MACHINE_SECRET_KEY or CLERK_SECRET_KEY",
}


def _known(room: _Room, introspector: Introspector, tenant_id: str) -> _Authority:
    """Give an issuer's authority; a changed configuration is a new one, with a clean record."""
    known = room.authorities.get(introspector.id)
    if known is None or known.digest != introspector.digest:
        known = _Authority(introspector.digest, "issuer", f"issuer {introspector.id} of tenant {tenant_id}")
        room.authorities.pop(introspector.id, None)
        room.authorities[introspector.id] = known
        if len(room.authorities) > _AUTHORITIES_MAX:
            del room.authorities[next(iter(room.authorities))]
    return known


def _read(authority: Introspector | ClerkToken, fetched: Fetched) -> TokenStatus:
    """Raises _NoAnswer for a status that says nothing about the token, UnreadableAnswer."""
    status = fetched.status
    if status == 200:
        if authority == "clerk_access":
            return words.clerk_access_answer(fetched.body)
        if authority == "clerk_machine":
            return words.clerk_machine_answer(fetched.body)
        assert isinstance(authority, Introspector)
        return words.issuer_answer(fetched.body, authority)
    if status in (401, 403):
        raise _NoAnswer("unauthorised", f"it refuses our own credentials with {status}")
    # Clerk has no other word for a token that it does not know, or that has not its form. An issuer has one (RFC 7662
    # section 2.2), and with 400 may mean our credentials (RFC 6749 section 5.2).
    if isinstance(authority, str) and status in (400, 404, 422):
        return TokenStatus(refusal=f"Clerk does not know it ({status})")
    raise _NoAnswer("failed", f"it answers {status}")


def _unavailable(reason: str, wait_s: float) -> GatewayError:
    return GatewayError(
        "identity-unavailable",
        "The token cannot be checked right now.",
        internal=reason,
        fields=((b"Retry-After", b"%d" % max(1, math.ceil(wait_s))),),
    )
