"""From an origin's host to the addresses a connection may go to.

In:    a host name or literal address; what the deployment opens.
Out:   checked addresses, or GatewayError.
Laws:  1. Every address of an answer must pass contracts.addresses, or none is used; the caller connects to exactly
       what was checked. 2. Checked at each connection, from the cache or not. 3. While DNS is away the last good
       answer serves on. 4. One question per name at a time.
Not here: connecting (upstream), what is forbidden (contracts.addresses).
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import gevent
from gevent.event import Event

from contracts.addresses import IPNetwork, refusal
from edge.errors import GatewayError, Retry, Source

_FRESH_S: Final = 30.0
_STALE_S: Final = 3_600.0
_NEGATIVE_S: Final = 2.0
_QUERY_TIMEOUT_S: Final = 5.0
_NAMES_MAX: Final = 4_096
_Lookup = Callable[[str], tuple[str, ...]]
_Answer = tuple[tuple[str, ...], float, float]
"""Addresses, until when they are fresh, and until when they serve on without DNS; both monotonic."""


class Resolver:
    """Names to addresses with a bounded cache. `lookup`: asks DNS; Blocks the greenlet, raises OSError."""

    def __init__(self, lookup: _Lookup | None = None, mono: Callable[[], float] = time.monotonic) -> None:
        self._lookup = lookup or _ask_hub
        self._mono = mono
        self._answers: OrderedDict[str, _Answer] = OrderedDict()
        self._asking: dict[str, Event] = {}

    def addresses(self, host: str) -> tuple[str, ...]:
        """Give a host's addresses, a literal's own. Empty when the name cannot be resolved now. Blocks on DNS."""
        if _is_literal(host):
            return (host,)
        known = self._answers.get(host)
        if known is not None and self._mono() < known[1]:
            return known[0]
        asking = self._asking.get(host)
        if asking is not None:
            asking.wait(_QUERY_TIMEOUT_S)
            known = self._answers.get(host)
            return known[0] if known is not None else ()
        return self._ask(host, known)

    def _ask(self, host: str, known: _Answer | None) -> tuple[str, ...]:
        event = self._asking[host] = Event()
        answer: tuple[str, ...] = ()
        try:
            with gevent.Timeout(_QUERY_TIMEOUT_S, False):
                answer = self._lookup(host)
        except OSError:
            pass
        finally:
            now = self._mono()
            if answer:
                self._keep(host, (answer, now + _FRESH_S, now + _FRESH_S + _STALE_S))
            elif known is not None and now < known[2]:
                answer = known[0]
                self._keep(host, (answer, min(now + _NEGATIVE_S, known[2]), known[2]))
            else:
                self._keep(host, ((), now + _NEGATIVE_S, now))
            del self._asking[host]
            event.set()
        return answer

    def _keep(self, host: str, answer: _Answer) -> None:
        self._answers[host] = answer
        self._answers.move_to_end(host)
        if len(self._answers) > _NAMES_MAX:
            self._answers.popitem(last=False)

    def __repr__(self) -> str:
        return f"<Resolver {len(self._answers)} names>"


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _ask_hub(host: str) -> tuple[str, ...]:
    """Ask gevent's resolver (ares: GEVENT_RESOLVER is set by __main__ before gevent is imported)."""
    resolver: Any = gevent.get_hub().resolver
    answers = resolver.getaddrinfo(host, 0, 0, 1)  # any family, SOCK_STREAM
    return tuple(dict.fromkeys(answer[4][0] for answer in answers))


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
