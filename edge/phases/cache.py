"""From memory: what a cached route's answer is kept under, when it is served, and when it is kept.

In:    the route's CachePlan, the request, who calls; the response of the origin.
Out:   exchange.cache_key, cache_result, cache_reason, cache_status; a Reply on a hit; entries for the cache.
Laws:  1. A key starts with tenant, route and epoch; parts are length-prefixed, so no value can imitate another part.
       2. An answer made for one principal is served to no other, nor to the same with other
       rights, unless the route says `shared`. 3. Whatever an origin
       sees and the key does not hold (a cookie, a method override, a body) makes the request bypass. 4. Nothing is
       read or kept before authentication and limits have passed. 5. An answer is kept only when it arrived whole.
       6. An answer that varies by a negotiated field is kept under a variant of the key, and a marker with the names
       under the key itself, so that every worker that shares the cache knows.
Not here: what RFC 9111 says of a message (edge.http.caching), tiers and purging (edge.store.cache_store).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from contracts.bounds import CACHE_OBJECT_BYTES_MAX
from contracts.keyspace import url_digest
from edge.errors import GatewayError, Source
from edge.exchange import Exchange, Principal
from edge.http import caching, conditional, forwarded, headers, upgrade
from edge.http.messages import Body, FieldSection, Reply
from edge.ports import Cache, CacheKey, StoredResponse, UpstreamResponse
from edge.snapshot import CachePlan, Route, joined

KEYS_MAX: Final = 8_192
"""Finished keys a worker remembers, of all tenants together."""
_KEY_BYTES_REMEMBERED_MAX: Final = 512
"""What a client wrote of a key (path, query, host, fields), to be remembered with it."""

_MARKER: Final = 0
"""The status of an entry that is no answer but says by which fields answers vary (`lines`, comma-separated)."""

# Whatever proves somebody to an origin, in fields that no cookie is.
_CREDENTIALS: Final = (b"authorization", b"x-api-key", b"signature")
# Fields by which frameworks let a request be other than it looks.
_OVERRIDES: Final = (
    b"x-http-method-override", b"x-http-method", b"x-method-override",
)  # fmt: skip


class _Facts(NamedTuple):
    """What one request's fields say to the cache. `bypass`: a reason, or None."""

    bypass: str | None
    values: bytes
    no_cache: bool
    max_age_s: int | None
    min_fresh_s: int
    only_if_cached: bool
    conditional: bool


def lookup(exchange: Exchange, route: Route, plan: CachePlan, cache: Cache) -> Reply | None:
    """Give the stored answer, None when the origin must be asked. Raises GatewayError(not-in-cache).

    May block on Redis.
    """
    head = exchange.head
    asked: _Asked | None = head.asked
    if (
        asked is None
        or asked.plan is not plan
        or asked.principal is not exchange.principal
        or asked.scheme != exchange.scheme
        or asked.told is not exchange.told
    ):
        asked = head.asked = _Asked(exchange, route, plan)
    facts = asked.facts
    key = exchange.cache_key = asked.key
    if key is None:
        _bypass(exchange, asked.bypass)
        return None
    stored = None if facts.no_cache else cache.find(key)
    if stored is not None and stored.status == _MARKER:
        stored = cache.find(_variant(exchange, key, tuple(stored.lines.split(b","))))
    if stored is None:
        _miss(exchange, facts, "request" if facts.no_cache else "uri-miss")
        return None
    age_s = stored.initial_age_s + max(0.0, exchange.received_at - stored.stored_at)
    left_s = stored.lifetime_s - age_s
    if left_s <= 0.0:
        _miss(exchange, facts, "stale")
        return None
    if left_s < facts.min_fresh_s or (facts.max_age_s is not None and age_s > facts.max_age_s):
        _miss(exchange, facts, "request")
        return None
    exchange.cache_result = "hit"
    exchange.cache_status = b"vantageedge; hit; ttl=%d" % left_s
    return _from_memory(exchange, stored, age_s, facts.conditional)


def store(exchange: Exchange, plan: CachePlan, response: UpstreamResponse, reply: Reply, cache: Cache) -> None:
    """Keep the answer, now or as the reply's body streams by; else say why not."""
    key, head = exchange.cache_key, response.head
    if key is None:
        return
    said = caching.directives(head.section)
    lifetime_s, age_s = caching.freshness(head.status, head.section, said, plan.ttl_s, exchange.received_at)
    keyed = frozenset(plan.names)
    reason = caching.refusal(head.status, head.section, said, keyed) or _unkept(exchange, response, lifetime_s - age_s)
    if reason is not None:
        exchange.cache_reason = reason
        exchange.cache_status += b"; detail=" + reason.encode("ascii")
        return
    exchange.cache_status += b"; stored"
    names = caching.varies_by(head.section, keyed)
    if names:
        marker = StoredResponse(_MARKER, b"", b",".join(names), b"", exchange.received_at, age_s, lifetime_s)
        cache.keep(key, marker)
        key = _variant(exchange, key, names)
    lines = headers.response_lines(head.section, plan.stored_drop)
    keeping = _Keeping(cache, key, head.status, head.reason, lines, exchange.received_at, age_s, lifetime_s)
    if isinstance(response.body, bytes):
        keeping.keep(response.body)
    else:
        reply.body = Tee(response.body, keeping)


def lines(exchange: Exchange) -> bytes:
    """Give X-Cache and Cache-Status (RFC 9211) of an answer of a cached route."""
    return b"X-Cache: %b\r\nCache-Status: %b\r\n" % (_SHOWN[exchange.cache_result or ""], exchange.cache_status)


_SHOWN: Final = {result: result.upper().encode("ascii") for result in ("", "hit", "miss", "bypass")}


class _Asked:
    """What a request is kept under, and all that this depends on besides its head. No key: it bypasses."""

    __slots__ = ("bypass", "facts", "key", "plan", "principal", "scheme", "told")

    def __init__(self, exchange: Exchange, route: Route, plan: CachePlan) -> None:
        head = exchange.head
        self.plan = plan  # of one version of the route, in which a head always has the same path
        self.principal = exchange.principal
        self.scheme = exchange.scheme
        self.told = exchange.told
        self.facts = facts = _facts(head.section, plan, exchange.consumed)
        reason = facts.bypass
        if head.method not in (b"GET", b"HEAD"):
            reason = "method"
        elif head.has_body:
            reason = "body"
        elif b"upgrade" in head.section.index and upgrade.offered(head):
            reason = "upgrade"  # the answer may be another protocol
        self.bypass = reason or ""
        self.key: CacheKey | None = _key(exchange, route, plan, facts) if reason is None else None


class _Keeping(NamedTuple):
    cache: Cache
    key: CacheKey
    status: int
    reason: bytes
    lines: bytes
    stored_at: float
    initial_age_s: float
    lifetime_s: float

    def keep(self, body: bytes) -> None:
        stored = StoredResponse(
            self.status, self.reason, self.lines, body, self.stored_at, self.initial_age_s, self.lifetime_s
        )
        self.cache.keep(self.key, stored)


class Tee:
    """A body that is kept while it streams by; beyond CACHE_OBJECT_BYTES_MAX it streams on and is not kept."""

    __slots__ = ("_body", "_keeping", "_pieces", "_size", "length")

    trailers = b""
    """Discarded, as RFC 9111 section 3.1 allows: who gets the answer from memory gets it without them too."""

    def __init__(self, body: Body, keeping: _Keeping) -> None:
        self._body = body
        self._keeping: _Keeping | None = keeping
        self._pieces: list[bytes] = []
        self._size = 0
        self.length = body.length

    def read(self) -> bytes:
        piece = self._body.read()
        keeping = self._keeping
        if keeping is None:
            return piece
        if piece:
            self._size += len(piece)
            self._pieces.append(piece)
            if self._size > CACHE_OBJECT_BYTES_MAX:
                self._keeping = None
                self._pieces.clear()
        else:
            self._keeping = None
            keeping.keep(b"".join(self._pieces))
            self._pieces.clear()
        return piece

    def close(self) -> None:
        self._keeping = None
        self._pieces.clear()
        self._body.close()


def _bypass(exchange: Exchange, reason: str) -> None:
    exchange.cache_result = "bypass"
    exchange.cache_reason = reason
    exchange.cache_status = (
        b"vantageedge; fwd=method" if reason == "method" else b"vantageedge; fwd=bypass; detail=" + reason.encode()
    )


def _miss(exchange: Exchange, facts: _Facts, reason: str) -> None:
    exchange.cache_result = "miss"
    exchange.cache_reason = reason
    exchange.cache_status = b"vantageedge; fwd=" + reason.encode("ascii")
    if facts.only_if_cached:  # RFC 9111 section 5.2.1.7
        raise GatewayError("not-in-cache", "Nothing stored satisfies only-if-cached.", source=Source.DOWNSTREAM)
    if exchange.head.method == b"HEAD":
        exchange.cache_key = None  # an answer without a body is not kept


def _unkept(exchange: Exchange, response: UpstreamResponse, left_s: float) -> str | None:
    head = response.head
    if left_s <= 0.0:
        return "no-freshness"
    if isinstance(response.body, bytes):
        return "too-large" if len(response.body) > CACHE_OBJECT_BYTES_MAX else None
    if head.content_length is None and not head.chunked:
        return "unframed"  # lasts until the connection closes: whole or cut off, nobody can tell
    return "too-large" if (head.content_length or 0) > CACHE_OBJECT_BYTES_MAX else None


def _from_memory(exchange: Exchange, stored: StoredResponse, age_s: float, is_conditional: bool) -> Reply:
    if is_conditional and stored.status == 200 and conditional.not_modified(exchange.head.section, stored.lines):
        reply = Reply(304, b"Not Modified", conditional.not_modified_lines(stored.lines), b"")
    elif exchange.head.method == b"HEAD":
        reply = Reply(stored.status, stored.reason, stored.lines, b"", len(stored.body))
    else:
        reply = Reply(stored.status, stored.reason, stored.lines, stored.body)
    # RFC 9110 section 7.6.3: a proxy MUST add itself to Via of what it forwards, from memory or not
    reply.extra.append(b"Age: %d\r\n%b" % (age_s, forwarded.VIA_11))
    return reply


def _key(exchange: Exchange, route: Route, plan: CachePlan, facts: _Facts) -> CacheKey:
    """GET and HEAD share a key. Host and scheme are parts because the origin is told them (X-Forwarded-*)."""
    head = exchange.head
    query = head.query if plan.by_query else None
    named = head.section.index.get(b"host")
    host = named[0].lower() if named is not None else head.host
    told = exchange.told
    if told is not None and told.host is not None:
        host = b"%b %b" % (host, told.host)
    who = None if plan.shared else exchange.principal
    assert exchange.tenant is not None
    written = len(exchange.path) + len(query or b"") + len(host) + len(facts.values)
    made = _made if written <= _KEY_BYTES_REMEMBERED_MAX else _made.__wrapped__
    return made(
        exchange.tenant.id, route.id, plan.scope, exchange.path, query, host, exchange.scheme, who, facts.values
    )


@lru_cache(maxsize=KEYS_MAX)
def _made(
    tenant_id: str, route_id: str, scope: bytes, path: bytes, query: bytes | None, host: bytes, scheme: bytes,
    who: Principal | None, values: bytes,
) -> CacheKey:  # fmt: skip
    digest = key_digest(scope, path, query, host, scheme, _rights(who), values)
    return CacheKey(tenant_id, route_id, digest, url_digest(path, query))


def _rights(who: Principal | None) -> bytes:
    """Give all that the origin is told of the caller (X-Vantage-Principal): it may answer by any of it."""
    if who is None:
        return b""
    words = (who.kind, who.issuer or "", who.subject, who.client_id or "", who.org_id or "", who.role or "")
    return joined(*(_joined_words(some) for some in (words, who.scopes, who.permissions)))


def _joined_words(words: Sequence[str]) -> bytes:
    return joined(*(word.encode("utf-8", "surrogatepass") for word in words))


def _variant(exchange: Exchange, key: CacheKey, names: tuple[bytes, ...]) -> CacheKey:
    section = exchange.head.section
    memory = ("variant", names)
    values: bytes | None = section.derived.get(memory)
    if values is None:
        values = joined(*(joined(name, *caching.variant_value(section, name)) for name in names))
        section.derived[memory] = values
    digest = hashlib.sha256(joined(key.digest.encode("ascii"), values)).hexdigest()
    return CacheKey(key.tenant_id, key.route_id, digest, key.url_digest)


def key_digest(
    scope: bytes, path: bytes, query: bytes | None, host: bytes, scheme: bytes, who: bytes, values: bytes
) -> str:
    """Give the name of a stored answer. No query and an empty query are different URLs (RFC 3986 section 6.2.3)."""
    asked = b"-" if query is None else b"?" + query
    return hashlib.sha256(joined(scope, path, asked, host, scheme, who, values)).hexdigest()


def _facts(section: FieldSection, plan: CachePlan, consumed: frozenset[bytes]) -> _Facts:
    """Depends on the section and few words of the plan: remembered in the section for the last such words."""
    words = (plan.names, plan.shared, consumed)
    kept = section.derived.get("cache")
    if kept is not None and kept[0] == words:
        remembered: _Facts = kept[1]
        return remembered
    facts = _read_facts(section, plan, consumed)
    section.derived["cache"] = (words, facts)
    return facts


def _read_facts(section: FieldSection, plan: CachePlan, consumed: frozenset[bytes]) -> _Facts:
    said = caching.request_directives(section)
    values = b""
    if plan.names:  # absent and empty are different values
        values = joined(*(joined(*section.index.get(name, ())) for name in plan.names))
    return _Facts(
        bypass="no-store" if b"no-store" in said else _unkeyed(section, plan, consumed),
        values=values,
        no_cache=b"no-cache" in said,
        max_age_s=caching.delta_s(said.get(b"max-age")),
        min_fresh_s=caching.delta_s(said.get(b"min-fresh")) or 0,
        only_if_cached=b"only-if-cached" in said,
        conditional=conditional.is_conditional(section),
    )


def _unkeyed(section: FieldSection, plan: CachePlan, consumed: frozenset[bytes]) -> str | None:
    """Name what the origin would see, may answer by, and the key does not hold. The credential that was believed here
    (`consumed`) is in the key as its principal; another one beside it is the origin's, and is not."""
    index = section.index
    if b"range" in index:
        return "range"
    if b"if-match" in index or b"if-unmodified-since" in index:
        return "precondition"
    if any(name in index and name not in plan.names for name in _OVERRIDES):
        return "override"
    if b"connection" in index and not headers.nominated(section).isdisjoint(caching.NEGOTIATED.union(plan.names)):
        return "nominated"  # the key would hold what the origin does not see
    if plan.shared:
        return None
    if b"cookie" in index and b"cookie" not in plan.names and headers.has_cookies(section):
        return "cookie"
    if any(name in index and name not in consumed and name not in plan.names for name in _CREDENTIALS):
        return "authorization"
    return None
