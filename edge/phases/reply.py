"""What the client gets: problems in one shape, and the fields that every answer carries.

In:    a GatewayError, or the reply a phase made; times; verdicts; what the cache did.
Out:   a problem Reply (RFC 9457); reply.extra filled: X-Request-Id, Server-Timing, a caller's notice; Proxy-Status on
       problems.
Laws:  1. `detail` is all the client learns of a failure; `internal` is for the log. 2. An answer of ours carries
       Proxy-Status (RFC 9209), so that our 502 differs from an origin's. 3. No cache keeps a problem. 4. What a rotated
       key's answer says of the key, and of a key's own limits, takes the place of what the origin says of itself: each
       field has one value.
Not here: framing, Date, Connection (edge.http.writer), lines of limits and cache (their phases).
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

import msgspec

from contracts.problems import MEDIA_TYPE, problem_body
from edge.errors import GatewayError
from edge.exchange import Exchange
from edge.http.messages import Reply

_ENCODE: Final = msgspec.json.Encoder().encode
_REASONS: Final = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}
_DEPRECATION: Final = re.compile(rb"(?im)^(?:deprecation|sunset):[^\n]*\n")
_LIMITS: Final = re.compile(rb"(?im)^(?:ratelimit|ratelimit-policy|x-ratelimit-(?:limit|remaining|reset)):[^\n]*\n")
# RFC 9209 section 2.3: the error type where the raiser named none.
_PROXY_ERRORS: Final = {
    "loop-detected": "proxy_loop_detected",
    "origin-unavailable": "destination_unavailable",
    "origin-unreachable": "connection_refused",
    "origin-timeout": "http_response_timeout",
    "origin-invalid-response": "http_protocol_error",
    "origin-forbidden": "destination_ip_prohibited",
    "gateway-overloaded": "connection_limit_reached",
    "tenant-overloaded": "connection_limit_reached",
}


def problem(error: GatewayError, request_id: bytes) -> Reply:
    """Render an error; its fields follow the problem's own."""
    kind = error.problem
    body = _ENCODE(problem_body(kind, error.detail, request_id.decode("ascii"), error.members))
    lines = [
        b"Content-Type: %b\r\nCache-Control: no-store\r\nProxy-Status: vantageedge; error=%b\r\n"
        % (MEDIA_TYPE.encode("ascii"), proxy_error(error).encode("ascii"))
    ]
    lines += [b"%b: %b\r\n" % field for field in error.fields]
    return Reply(kind.status, _REASONS[kind.status], b"".join(lines), body)


def proxy_error(error: GatewayError) -> str:
    """Give the RFC 9209 error type: the raiser's, the problem's, or the one of its class."""
    if error.proxy_error:
        return error.proxy_error
    named = _PROXY_ERRORS.get(error.problem.slug)
    if named is not None:
        return named
    if error.problem.status in (401, 403, 429):
        return "http_request_denied"
    return "http_request_error" if error.problem.status < 500 else "proxy_internal_error"


def refused(error: GatewayError, request_id: bytes) -> Reply:
    """Answer what never became an exchange."""
    made = problem(error, request_id)
    made.extra.append(b"X-Request-Id: %b\r\n" % request_id)
    return made


def bug(error: Exception) -> GatewayError:
    """An impossible state ends the exchange, not the worker. What was raised stays its cause, for the log."""
    failure = GatewayError("gateway-failure", "The gateway failed.", internal=f"{type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure


def finish(exchange: Exchange, made: Reply, lines: bytes, now_mono: float) -> None:
    """Add what every answer carries, then `lines` of other phases. `now_mono`: when the answer is ready to be written.

    Server-Timing in milliseconds: `edge` is all the time that was not the origin's.
    """
    total_s = now_mono - exchange.received_mono
    if exchange.attempts:
        origin_s = (exchange.upstream_first_mono or exchange.upstream_last_mono) - exchange.upstream_start_mono
        ours = b"X-Request-Id: %b\r\nServer-Timing: edge;dur=%.1f, origin;dur=%.1f\r\n" % (
            exchange.request_id, (total_s - origin_s) * 1e3, origin_s * 1e3,
        )  # fmt: skip
    else:
        ours = b"X-Request-Id: %b\r\nServer-Timing: edge;dur=%.1f\r\n" % (exchange.request_id, total_s * 1e3)
    principal = exchange.principal
    if principal is not None:
        if principal.notice:
            made.lines = _DEPRECATION.sub(b"", made.lines)
            ours += principal.notice
        if principal.policies and lines.startswith(b"RateLimit"):  # not what a shadow policy would say
            made.lines = _LIMITS.sub(b"", made.lines)
    made.extra.append(ours + lines)
