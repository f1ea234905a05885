"""How often a caller may ask: which policies apply to whom, the arithmetic of each algorithm, what the client is told.

In:    the route's policies and the principal's own, the client's address; the counters' verdicts.
Out:   exchange.verdicts; GatewayError quota-exceeded; RateLimit fields.
Laws:  1. All policies of a request are decided together, all or nothing; a refused request costs nothing. 2. A missing
       identifier goes to a bucket that all such callers share: never past the limit. 3. IPv6 clients count by /64.
       4. A shadow policy never refuses and is never shown. 5. A principal's own policies follow the route's and
       count for it alone, on whichever route. 6. The arithmetic is pure and small, so that Redis scripts can mirror it
       and be compared with it. 7. No interval holds more than burst + rate x its length; no sliding window more than
       its limit, counted by two cells or, where the limit is small, one by one. 8. A field's value is digested before
       it is kept; several lines of a field are one value (RFC 9110 section 5.3).
Who counts as what: `key` is an API key; `user` is whoever else was authenticated: a person, the subject of an OAuth
       token, a machine or a service, told apart by issuer and subject. Who is the other of the two, or anonymous, is in
       the shared bucket of that scope.
Not here: where counts live (edge.store.counters).

Longer than 400 lines because the arithmetic of the algorithms and the one phase that needs it are read together.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from contracts.snapshot import DAY_S, SCOPE_HEADER, PolicyConfig
from edge.errors import GatewayError, Source
from edge.exchange import Exchange, Principal
from edge.http.messages import FieldSection
from edge.ports import Check, Counters, Verdict
from edge.snapshot import Route, joined

ANONYMOUS: Final = b""
"""The identifier of whoever has none: one bucket for all of them."""
_UNVARYING: Final = frozenset({"tenant", "route"})
_VALUE_OCTETS_MAX: Final = 8_192
"""So much of a field's value tells callers apart; those that differ only behind it share a bucket."""

# --- The arithmetic -------------------------------------------------------------------------------------------------

EXACT_MAX: Final = 32
"""Up to this limit a window remembers each admission: two cells would give a limit of 1 only every second window, and
one of 10 only nine times in ten, because what slides out comes in whole requests. Beyond it they lose at most 3 %."""
_MARCH_0000: Final = 719_468
"""Days from 1 March of the year 0 to 1 January 1970."""
_FEBRUARY: Final = 11
_SLACK: Final = 1e-9
"""What rounding may add: a whole token that is one only but for the last bit of a double."""


class Bucket(NamedTuple):
    """A bucket's state: `level` cells are in use at wall or monotonic time `at`; it drains at the policy's rate."""

    level: float
    at: float


class Window(NamedTuple):
    """Two cells of a sliding window: counts of window `number` and of the one before."""

    number: int
    current: int
    previous: int


class Marks(NamedTuple):
    """A small sliding window: when each of its admissions was, oldest first; one of cost 3 stands there three times."""

    at: tuple[float, ...]


class Period(NamedTuple):
    """A calendar quota's state: what was used of the period that began at second `start`."""

    start: int
    used: int


State = Bucket | Window | Marks | Period


class Decision(NamedTuple):
    """`reset_s`: until the full quota is back. `retry_after_s`: until the same question could be allowed, else 0."""

    allowed: bool
    remaining: int
    reset_s: float
    retry_after_s: float


def gcra(state: Bucket | None, now: float, rate: float, burst: float, cost: int = 1) -> tuple[Decision, Bucket]:
    """Decide by the Generic Cell Rate Algorithm in its leaky-bucket form (ITU-T I.371 annex A): a bucket of `burst`
    cells that drains `rate` cells a second; allowed when `cost` more cells fit.

    The leaky-bucket form and not the arrival-time form: seconds since 1970 in a double are too coarse to add
    microseconds to. None is an empty bucket. A clock that steps back drains nothing and is followed; one that steps
    forward drains as if that time had passed. A bucket that became smaller is full, not more than full.
    """
    level = 0.0
    if state is not None:
        level = min(max(0.0, state.level - max(0.0, now - state.at) * rate), burst)
    after = level + cost
    if after <= burst + _SLACK:
        return Decision(True, int(burst - after + _SLACK), after / rate, 0.0), Bucket(after, now)
    left = int(burst - level + _SLACK)
    return Decision(False, left, level / rate, (after - burst) / rate), Bucket(level, now)


def sliding_window(
    state: Window | None, now: float, limit: int, window_s: int, cost: int = 1
) -> tuple[Decision, Window]:
    """Decide by the two-cell counter `current + previous x (1 - elapsed / window)`; windows start at multiples of
    `window_s` of the caller's clock. None is an empty counter.

    A clock that steps back by up to a window stays in the newest one; further back it is followed, with all that was
    counted counted again: no burst, and nobody waits for more than two windows.
    """
    number = int(now // window_s)
    current = previous = 0
    if state is not None:
        if state.number > number + 1:
            current = min(limit, state.current + state.previous)
        else:
            number = max(number, state.number)
            if state.number == number:
                current, previous = state.current, state.previous
            elif state.number == number - 1:
                previous = state.current
    elapsed = min(max(now - number * window_s, 0.0), window_s)
    used = current + previous * (1.0 - elapsed / window_s)
    if used + cost <= limit + _SLACK:
        decision = Decision(True, int(limit - used - cost + _SLACK), 2 * window_s - elapsed, 0.0)
        return decision, Window(number, current + cost, previous)
    wait_s = _window_wait(current, previous, elapsed, limit - cost, window_s)
    reset_s = 2 * window_s - elapsed if current else window_s - elapsed
    return Decision(False, max(0, int(limit - used + _SLACK)), reset_s, wait_s), Window(number, current, previous)


def _window_wait(current: int, previous: int, elapsed: float, room: int, window_s: int) -> float:
    """Give the seconds until at most `room` are counted, if nothing else is admitted."""
    if current <= room:  # the previous window has to slide out far enough
        return max(0.0, window_s * (1.0 - (room - current) / previous) - elapsed)
    return window_s - elapsed + window_s * (1.0 - max(room, 0) / max(current, 1))


def exact_window(state: Marks | None, now: float, limit: int, window_s: int, cost: int = 1) -> tuple[Decision, Marks]:
    """Decide by the admissions of the last `window_s` themselves, for limits up to EXACT_MAX. None is an empty window.

    A clock that steps back is followed: what lies in its future counts as of now.
    """
    kept = [min(at, now) for at in state.at if at + window_s > now] if state is not None else []
    left = limit - len(kept) - cost
    if left >= 0:
        return Decision(True, left, float(window_s), 0.0), Marks((*kept, *[now] * cost))
    wait_s = kept[min(-left, len(kept)) - 1] + window_s - now if kept else float(window_s)
    reset_s = kept[-1] + window_s - now if kept else 0.0
    return Decision(False, max(0, limit - len(kept)), reset_s, wait_s), Marks(tuple(kept))


def calendar_quota(
    state: Period | None, now: float, limit: int, window_s: int, cost: int = 1
) -> tuple[Decision, Period]:
    """Decide by what was used of this day or month of UTC. None is an unused quota. A clock that steps back stays in
    the newest period: no quota is given twice."""
    start, end = calendar_period(now, window_s)
    used = 0
    if state is not None and state.start >= start:
        start, end = calendar_period(state.start, window_s)
        used = state.used
    rest_s = end - now
    if used + cost <= limit:
        return Decision(True, limit - used - cost, rest_s, 0.0), Period(start, used + cost)
    return Decision(False, max(0, limit - used), rest_s, rest_s), Period(start, used)


def calendar_period(now: float, window_s: int) -> tuple[int, int]:
    """Give the seconds at which the day (up to DAY_S) or the month of `now` begins and ends, in UTC."""
    day = int(now // DAY_S)
    if window_s <= DAY_S:
        return day * DAY_S, (day + 1) * DAY_S
    # The civil calendar from 1 March on, in eras of 400 years: the leap day is the last one of its year.
    era, of_era = divmod(day + _MARCH_0000, 146_097)
    year = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    first = day - (of_year - (153 * month + 2) // 5)
    if month < _FEBRUARY:
        return first * DAY_S, (first + (153 * (month + 1) + 2) // 5 - (153 * month + 2) // 5) * DAY_S
    ends = era * 400 + year + 1
    leap = ends % 4 == 0 and (ends % 100 != 0 or ends % 400 == 0)
    return first * DAY_S, (first + 28 + leap) * DAY_S


_Checks = tuple[tuple[Check, ...], tuple[Check, ...]]
"""Those that count requests in a time, and those that count requests in flight."""

# --- The phase ------------------------------------------------------------------------------------------------------


class Admission:
    """A route's policies made ready: the checks that never vary, the RateLimit-Policy line, the names for headers."""

    __slots__ = (
        "checks",
        "header_names",
        "ids",
        "items",
        "names",
        "policies",
        "policy_line",
        "scopes_vary",
        "template",
        "tenant_id",
        "uses_ip",
    )

    def __init__(self, route: Route, tenant_id: str) -> None:
        self.tenant_id = tenant_id
        self.policies = route.policies
        self.scopes_vary = any(not _UNVARYING.issuperset(policy.scope) for policy in route.policies)
        self.uses_ip = any("ip" in policy.scope for policy in route.policies)
        self.header_names = sorted(
            {scope for policy in route.policies for scope in policy.scope if scope.startswith(SCOPE_HEADER)}
        )
        self.ids = frozenset(policy.id for policy in route.policies)
        self.checks: _Checks = ((), ()) if self.scopes_vary else _apart(self.checks_for({}))
        shown = [policy for policy in route.policies if policy.mode == "enforce"]
        self.names = {policy.id: _sf_name(policy) for policy in shown}
        self.items = [_policy_item(policy) for policy in shown]
        self.policy_line = b"RateLimit-Policy: %b\r\n" % b", ".join(self.items) if self.items else b""
        plain = len(route.policies) == len(shown) == 1 and shown[0].algorithm != "concurrency"
        self.template = self._template(shown[0]) if plain else None
        """The lines of a route with one policy, ready for remaining and reset, twice."""

    def _template(self, policy: PolicyConfig) -> bytes:
        fixed = (self.policy_line + b"RateLimit: " + self.names[policy.id]).replace(b"%", b"%%")
        legacy = b"X-RateLimit-Limit: %d\r\nX-RateLimit-Remaining: %%d\r\nX-RateLimit-Reset: %%d\r\n" % quota(policy)
        return fixed + b";r=%d;t=%d\r\n" + legacy

    def checks_for(self, known: Mapping[str, bytes]) -> tuple[Check, ...]:
        """`known`: of each scope that varies who asks; what is missing is everybody who has none."""
        return tuple(
            Check(
                self.tenant_id,
                policy,
                joined(*(known.get(scope, ANONYMOUS) for scope in policy.scope if scope not in _UNVARYING)),
                policy.cost or 1,
            )
            for policy in self.policies
        )


def admit(exchange: Exchange, route: Route, counters: Counters) -> None:
    """Ask all policies of route and principal at once. Raises GatewayError(quota-exceeded). May block on Redis."""
    admission: Admission | None = route.admission
    if admission is None:
        admission = route.admission = Admission(route, _tenant_id(exchange))
    principal = exchange.principal
    varies = admission.scopes_vary or (principal is not None and principal.policies)
    checks, places = _varying_checks(exchange, admission) if varies else admission.checks
    entered: Sequence[Verdict] = ()
    if places:
        entered = exchange.verdicts = _enter(exchange, places, counters)
    if checks:
        verdicts = exchange.verdicts = counters.admit(checks)
        if entered:
            exchange.verdicts = (*verdicts, *entered)
        _refuse_exceeded(verdicts, exchange, counters)


def leave(exchange: Exchange, counters: Counters) -> None:
    """Give back the request's places among those in flight. Never blocks."""
    held, exchange.held = exchange.held, ()
    counters.leave(held)


def _enter(exchange: Exchange, places: Sequence[Check], counters: Counters) -> Sequence[Verdict]:
    """Take a place of each limit of requests in flight, before the others are asked: a place can be given back."""
    entered = counters.enter(places)
    if len(entered) < len(places) or _refuses(entered[-1]):
        exchange.verdicts = entered
        raise _exceeded(entered)
    exchange.held = [check for check, verdict in zip(places, entered, strict=True) if verdict.allowed]
    return entered


def _refuses(verdict: Verdict) -> bool:
    return not verdict.allowed and verdict.policy.mode == "enforce"


def _refuse_exceeded(verdicts: Sequence[Verdict], exchange: Exchange, counters: Counters) -> None:
    for verdict in verdicts:
        if not verdict.allowed and verdict.policy.mode == "enforce":
            if exchange.held:
                leave(exchange, counters)
            raise _exceeded(verdicts)


def lines(route: Route, verdicts: Sequence[Verdict]) -> bytes:
    """Give RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers) and the X-RateLimit lines of the
    policy that is nearest to its end. Empty when only shadow policies spoke.
    """
    admission: Admission = route.admission
    only = verdicts[0]
    if admission.template is not None and len(verdicts) == 1 and only.policy.id in admission.ids:
        reset_s = math.ceil(only.reset_s)
        return admission.template % (only.remaining, reset_s, only.remaining, reset_s)
    own = [verdict.policy for verdict in verdicts if verdict.policy.id not in admission.ids]
    if own:
        return _lines_of_both(admission, own, verdicts)
    return _listed(admission.policy_line, admission.names, verdicts)


def _lines_of_both(admission: Admission, own: Sequence[PolicyConfig], verdicts: Sequence[Verdict]) -> bytes:
    """The principal's own policies are named behind the route's."""
    own = [policy for policy in own if policy.mode == "enforce"]
    names = admission.names | {policy.id: _sf_name(policy) for policy in own}
    items = [*admission.items, *map(_policy_item, own)]
    return _listed(b"RateLimit-Policy: %b\r\n" % b", ".join(items), names, verdicts)


def _listed(policy_line: bytes, names: Mapping[str, bytes], verdicts: Sequence[Verdict]) -> bytes:
    tightest: Verdict | None = None
    items = []
    for verdict in verdicts:
        name = names.get(verdict.policy.id)
        if name is not None:
            if verdict.policy.algorithm == "concurrency":  # nobody knows when a request ends
                items.append(b"%b;r=%d" % (name, verdict.remaining))
            else:
                items.append(b"%b;r=%d;t=%d" % (name, verdict.remaining, math.ceil(verdict.reset_s)))
            if tightest is None or verdict.remaining < tightest.remaining:
                tightest = verdict
    if tightest is None:
        return b""
    return b"%bRateLimit: %b\r\nX-RateLimit-Limit: %d\r\nX-RateLimit-Remaining: %d\r\nX-RateLimit-Reset: %d\r\n" % (
        policy_line, b", ".join(items), quota(tightest.policy), tightest.remaining,
        math.ceil(tightest.reset_s),
    )  # fmt: skip


def quota(policy: PolicyConfig) -> int:
    """The most a caller can have at once: what headers call the limit."""
    return policy.burst if policy.algorithm == "token_bucket" else policy.limit


def window_s(policy: PolicyConfig) -> int:
    """The time in which the quota comes back: a token bucket's is how long it takes to fill."""
    if policy.algorithm == "token_bucket":
        return max(1, math.ceil(policy.burst / policy.rate_per_second))
    return policy.window_s


@lru_cache(maxsize=4096)
def network(client_ip: str) -> bytes:
    """Give what an address counts as: itself for IPv4, its /64 for IPv6, of which one customer has many addresses."""
    if ":" not in client_ip:
        return client_ip.encode("ascii")
    address = ipaddress.IPv6Address(client_ip.partition("%")[0])
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped).encode("ascii")
    return address.packed[:8]


def _apart(checks: Sequence[Check]) -> _Checks:
    """Set requests in a time apart from requests in flight."""
    places = tuple([check for check in checks if check.policy.algorithm == "concurrency"])
    return tuple([check for check in checks if check.policy.algorithm != "concurrency"]), places


def _varying_checks(exchange: Exchange, admission: Admission) -> _Checks:
    """Build the checks of this caller, or take those of the equal request before: same fields, route and principal."""
    principal = exchange.principal
    client_ip = exchange.client_ip if admission.uses_ip else ""
    derived = exchange.head.section.derived
    kept = derived.get("ratelimit")
    if kept is not None and kept[0] is admission and kept[1] is principal and kept[2] == client_ip:
        remembered: _Checks = kept[3]
        return remembered
    known = {name: _field(exchange.head.section, name) for name in admission.header_names}
    if admission.uses_ip:
        known["ip"] = network(client_ip)
    if principal is not None:
        known["key" if principal.kind == "key" else "user"] = subject = _subject(principal)
        own = tuple([Check(admission.tenant_id, policy, subject, policy.cost or 1) for policy in principal.policies])
        checks = admission.checks_for(known) + own
    else:
        checks = admission.checks_for(known)
    apart = _apart(checks)
    derived["ratelimit"] = (admission, principal, client_ip, apart)
    return apart


def _field(section: FieldSection, scope: str) -> bytes:
    """Give what a field's value counts as; a field that is missing or empty is ANONYMOUS."""
    value = section.get(scope.removeprefix(SCOPE_HEADER).encode("ascii"))
    return hashlib.blake2b(value[:_VALUE_OCTETS_MAX], digest_size=16).digest() if value else ANONYMOUS


def _subject(principal: Principal) -> bytes:
    """Two issuers may know two people by one name."""
    subject = principal.subject.encode("utf-8")
    return subject if principal.issuer is None else joined(principal.issuer.encode("utf-8"), subject)


def _exceeded(verdicts: Sequence[Verdict]) -> GatewayError:
    refused = [verdict for verdict in verdicts if not verdict.allowed and verdict.policy.mode == "enforce"]
    wait_s = max(1, math.ceil(max(verdict.retry_after_s for verdict in refused)))
    names = [verdict.policy.name for verdict in refused]
    much = "Too many requests at once" if refused[0].policy.algorithm == "concurrency" else "Too many requests"
    return GatewayError(
        "quota-exceeded",
        f"{much}: try again in {wait_s} s.",
        internal=f"policies={','.join(names)}",
        source=Source.DOWNSTREAM,
        fields=((b"Retry-After", b"%d" % wait_s),),
        members={"violated-policies": names},
    )


@lru_cache(maxsize=4096)
def _sf_name(policy: PolicyConfig) -> bytes:
    return b'"%b"' % _quoted(policy.name)


@lru_cache(maxsize=4096)
def _policy_item(policy: PolicyConfig) -> bytes:
    if policy.algorithm == "concurrency":
        return b'%b;q=%d;qu="concurrent-requests"' % (_sf_name(policy), policy.limit)
    return b"%b;q=%d;w=%d" % (_sf_name(policy), quota(policy), window_s(policy))


def _quoted(name: str) -> bytes:
    """Write a name inside an sf-string (RFC 9651 section 3.3.3): printable ASCII only."""
    ascii_only = "".join(character if " " <= character <= "~" else "_" for character in name)
    return ascii_only.replace("\\", "\\\\").replace('"', '\\"').encode("ascii")


def _tenant_id(exchange: Exchange) -> str:
    assert exchange.tenant is not None
    return exchange.tenant.id
