"""From an origin's host to the addresses a connection may go to.

In:    a host name or literal address; what the deployment opens.
Out:   checked addresses, or GatewayError; for kept connections, the addresses that a name still has.
Laws:  1. Every address of an answer must pass contracts.addresses, or none is used; the caller connects to exactly
       what was checked. 2. Checked at each connection, from the cache or not. 3. An answer holds as long as it says,
       within bounds; a name in use is asked for again shortly before, so that no request waits for it. 4. While DNS is
       away the last good answer serves on; when DNS says that the name is gone, it is gone. 5. One question per name
       at a time.
Not here: asking (dns), connecting (connecting), what is forbidden (contracts.addresses).
"""

from __future__ import annotations

import heapq
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import gevent
from gevent.event import Event

from contracts.addresses import IPNetwork, refusal
from edge.errors import GatewayError, Retry, Source
from edge.net.dns import Answer, DnsClient

TTL_S_MIN: Final = 1.0
TTL_S_MAX: Final = 300.0
NEGATIVE_TTL_S_MAX: Final = 30.0
_STALE_S: Final = 3_600.0
_AGAIN_S: Final = 2.0
"""After a question that nobody answered."""
_QUERY_TIMEOUT_S: Final = 5.0
_PATIENCE_S: Final = 1.8
"""What a request waits for a new answer while an old one is at hand (RFC 8767 section 5: 1.8 seconds)."""
_RENEW_AT: Final = 0.8
"""The part of an answer's life after which it is asked for again."""
_IN_USE_S: Final = 60.0
_RENEWALS_MAX: Final = 32
_NAMES_MAX: Final = 4_096
_PAST_MAX: Final = 64
_Lookup = Callable[[str], Answer]


class _Name:
    """What is known of one name. Times are monotonic. `kept` is None when nobody ever said anything."""

    __slots__ = ("addresses", "fresh_until", "kept", "past", "renew_at", "stale_until", "ttl_s", "used")

    def __init__(self, used: float) -> None:
        self.addresses: tuple[str, ...] = ()
        self.fresh_until = self.stale_until = self.renew_at = self.ttl_s = 0.0
        self.used = used
        self.past: dict[str, float] = {}
        """Addresses it had lately, and until when connections to them are kept."""
        self.kept: frozenset[str] | None = None
        """`addresses` and `past`."""

    def answered(self, answer: Answer, now: float) -> None:
        known = bool(answer.addresses)
        ttl_s = self.ttl_s = min(max(answer.ttl_s, TTL_S_MIN), TTL_S_MAX if known else NEGATIVE_TTL_S_MAX)
        self.fresh_until = now + ttl_s
        self.stale_until = self.fresh_until + _STALE_S if known else now
        self.renew_at = now + _RENEW_AT * ttl_s if known else 0.0
        if self.kept is None or set(answer.addresses) != set(self.addresses):
            gone = {address: now + ttl_s for address in self.addresses if address not in answer.addresses}
            still = [item for item in self.past.items() if item[0] not in answer.addresses]
            self.past = dict([*still, *gone.items()][-_PAST_MAX:])
            self.kept = frozenset(answer.addresses).union(self.past)
        self.addresses = answer.addresses

    def silent(self, now: float) -> None:
        """Nobody answered: the last good answer serves on."""
        if self.addresses and now < self.stale_until:
            self.fresh_until = min(now + _AGAIN_S, self.stale_until)
            self.renew_at = now + _AGAIN_S * _RENEW_AT
        else:
            self.addresses, self.kept = (), None
            self.fresh_until = now + _AGAIN_S
            self.renew_at = 0.0

    def forget_past(self, now: float) -> None:
        self.past = {address: until for address, until in self.past.items() if now < until}
        self.kept = frozenset(self.addresses).union(self.past)


class Resolver:
    """Names to addresses with a bounded cache. `lookup`: asks DNS; Blocks the greenlet, raises OSError.

    `renew` is to be called a few times a second by whoever owns a clock.
    """

    def __init__(self, lookup: _Lookup | None = None, mono: Callable[[], float] = time.monotonic) -> None:
        self._lookup = lookup or DnsClient()
        self._mono = mono
        self._names: OrderedDict[str, _Name] = OrderedDict()
        self._asking: dict[str, Event] = {}
        self._due: list[tuple[float, str]] = []
        """A heap of `renew_at` and name; an entry that the name no longer agrees with is void."""

    def addresses(self, host: str) -> tuple[str, ...]:
        """Give a host's addresses, a literal's own. Empty when the name cannot be resolved now. Blocks on DNS."""
        if is_literal(host):
            return (host,)
        now = self._mono()
        name = self._names.get(host)
        if name is not None:
            name.used = now
            if now < name.fresh_until:
                return name.addresses
        at_hand = name is not None and bool(name.addresses) and now < name.stale_until
        asking = self._asking.get(host)
        if asking is None:
            asking = self._ask(host)
        elif at_hand and name is not None:  # it was asked for in good time; DNS takes longer than that
            return name.addresses
        asking.wait(_PATIENCE_S if at_hand else _QUERY_TIMEOUT_S)
        name = self._names.get(host)
        return name.addresses if name is not None else ()

    def kept(self, host: str) -> frozenset[str] | None:
        """Give the addresses to which connections are kept; None when all are. Counts as use of the name.

        Gives the same object until something changes. Never blocks.
        """
        name = self._names.get(host)
        if name is None:
            return None
        name.used = now = self._mono()
        if name.past and now >= min(name.past.values()):
            name.forget_past(now)
        return name.kept

    def renew(self, now_mono: float) -> None:
        """Ask again for names in use whose answers end soon. Never blocks."""
        due = self._due
        while due and due[0][0] <= now_mono and len(self._asking) < _RENEWALS_MAX:
            renew_at, host = heapq.heappop(due)
            name = self._names.get(host)
            if name is None or name.renew_at != renew_at or host in self._asking:
                continue
            if now_mono - name.used <= max(name.ttl_s, _IN_USE_S):
                self._ask(host)

    def _ask(self, host: str) -> Event:
        """Ask in a greenlet of its own: who waits for the answer may leave."""
        event = self._asking[host] = Event()
        gevent.spawn(self._settle, host, event)
        return event

    def _settle(self, host: str, event: Event) -> None:
        answer: Answer | None = None
        try:
            with gevent.Timeout(_QUERY_TIMEOUT_S, False):
                answer = self._lookup(host)
        except OSError:
            pass
        finally:
            self._keep(host, answer)
            del self._asking[host]
            event.set()

    def _keep(self, host: str, answer: Answer | None) -> None:
        now = self._mono()
        name = self._names.get(host)
        if name is None:
            name = self._names[host] = _Name(now)
        if answer is None:
            name.silent(now)
        else:
            name.answered(answer, now)
        if name.renew_at:
            heapq.heappush(self._due, (name.renew_at, host))
        self._names.move_to_end(host)
        if len(self._names) > _NAMES_MAX:
            self._names.popitem(last=False)

    def __repr__(self) -> str:
        return f"<Resolver {len(self._names)} names>"


def is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def checked(resolver: Resolver, host: str, allowed: tuple[IPNetwork, ...]) -> tuple[str, ...]:
    """Give the addresses a connection to this host may go to, at least one.

    Blocks on DNS. Raises GatewayError: origin-unreachable when there is none, origin-forbidden when one is refused.
    """
    addresses = resolver.addresses(host)
    if not addresses:
        raise GatewayError(
            "origin-unreachable", "The origin's name could not be resolved.", internal=f"no address for {host}",
            source=Source.UPSTREAM, retry=Retry.NOTHING_SENT, proxy_error="dns_error",
        )  # fmt: skip
    for address in addresses:
        reason = refusal(address, allowed)
        if reason is not None:
            raise GatewayError(
                "origin-forbidden", "The origin's address is not allowed.",
                internal=f"{host} is {address}, which {reason}", source=Source.UPSTREAM, retry=Retry.NEVER,
                proxy_error="destination_ip_prohibited",
            )  # fmt: skip
    return addresses
