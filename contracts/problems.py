"""The catalogue of everything that can go wrong on the wire, one slug each.

In:    a slug.
Out:   its status, title, and whose fault it is; the JSON members of RFC 9457 (problem details).
Laws:  1. A slug never changes its meaning or status. 2. Each slug has a page docs/problems/<slug>.md
       (a test compares). 3. Public text only: nothing in here ever names a tenant or an address.
Not here: raising (edge.errors, webapp.services.errors).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

AtFault = Literal["client", "tenant_config", "origin", "gateway"]
MEDIA_TYPE: Final = "application/problem+json"
_TYPE_BASE: Final = "urn:vantageedge:problem:"


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of failure. `type_uri` is an identifier (RFC 9457 section 3.1.1), not a page to fetch."""

    slug: str
    status: int
    title: str
    at_fault: AtFault
    registered_type: str | None = None

    @property
    def type_uri(self) -> str:
        return self.registered_type or _TYPE_BASE + self.slug


def _catalogue(*problems: Problem) -> dict[str, Problem]:
    return {problem.slug: problem for problem in problems}


PROBLEMS: Final = _catalogue(
    # HTTP syntax and limits, decided before any tenant is known.
    Problem("request-malformed", 400, "The request is not valid HTTP", "client"),
    Problem("host-invalid", 400, "The Host header is missing, repeated or malformed", "client"),
    Problem("path-invalid", 400, "The path has characters or escapes that are not allowed", "client"),
    Problem("request-timeout", 408, "The request took too long to arrive", "client"),
    Problem("reader-too-slow", 408, "The response was not read in time", "client"),
    Problem("body-too-large", 413, "The request body is larger than the route allows", "client"),
    Problem("target-too-long", 414, "The request target is too long", "client"),
    Problem("expectation-failed", 417, "The expectation cannot be met", "client"),
    Problem("misdirected", 421, "The connection's certificate is not for this host", "client"),
    Problem("head-too-large", 431, "The request's header section is too large", "client"),
    Problem("method-unsupported", 501, "The method is not supported", "client"),
    Problem("version-unsupported", 505, "The HTTP version is not supported", "client"),
    # Tenant and route.
    Problem("tenant-unknown", 404, "No tenant lives at this host", "client"),
    Problem("tenant-suspended", 403, "This tenant is suspended", "tenant_config"),
    Problem("tenant-overloaded", 503, "This tenant has too many requests in flight", "tenant_config"),
    Problem("route-unknown", 404, "No route matches this path", "client"),
    Problem("method-not-allowed", 405, "The route does not allow this method", "client"),
    Problem("address-denied", 403, "The client's address is not allowed", "client"),
    # Who calls.
    Problem("credentials-missing", 401, "Credentials are required", "client"),
    Problem("credentials-invalid", 401, "The credentials are not valid", "client"),
    Problem("credentials-ambiguous", 400, "More than one kind of credential was sent", "client"),
    Problem("digest-mismatch", 400, "The body is not the one its Content-Digest tells of", "client"),
    Problem("scope-insufficient", 403, "The credentials do not cover this request", "client"),
    Problem("auth-attempts-exceeded", 429, "Too many failed attempts to authenticate", "client"),
    Problem("identity-unavailable", 503, "Credentials cannot be checked right now", "gateway"),
    # How often.
    Problem(
        "quota-exceeded",
        429,
        "A rate limit was exceeded",
        "client",
        "https://iana.org/assignments/http-problem-types#quota-exceeded",
    ),
    Problem("limiter-unavailable", 503, "The rate limiter cannot decide right now", "gateway"),
    # Cache.
    Problem("not-in-cache", 504, "Nothing stored satisfies only-if-cached", "client"),
    # To whom.
    Problem("origin-unavailable", 503, "No healthy origin can take the request", "origin"),
    Problem("origin-unreachable", 502, "The origin could not be reached", "origin"),
    Problem("origin-forbidden", 502, "The origin's address is not allowed", "tenant_config"),
    Problem("origin-invalid-response", 502, "The origin sent an invalid response", "origin"),
    Problem("origin-timeout", 504, "The origin did not answer in time", "origin"),
    Problem("loop-detected", 508, "The request went through this gateway before", "tenant_config"),
    Problem("gateway-overloaded", 503, "The gateway is at its connection limit", "gateway"),
    Problem("gateway-draining", 503, "The gateway is shutting down", "gateway"),
    Problem("gateway-failure", 500, "The gateway failed", "gateway"),
    Problem("config-unavailable", 503, "The tenant's configuration cannot be loaded right now", "gateway"),
    # The control plane's API.
    Problem("json-malformed", 400, "The body is not valid JSON", "client"),
    Problem("unauthenticated", 401, "A bearer token is required", "client"),
    Problem("forbidden", 403, "Your role does not allow this", "client"),
    Problem("not-found", 404, "There is no such thing here", "client"),
    Problem("conflict", 409, "The change conflicts with what is there", "client"),
    Problem("precondition-failed", 412, "The thing changed since it was read", "client"),
    Problem("media-type-unsupported", 415, "The body must be application/json", "client"),
    Problem("validation-failed", 422, "Some fields are not valid", "client"),
    Problem("precondition-required", 428, "If-Match is required", "client"),
    Problem("too-many-requests", 429, "Too many calls to the API", "client"),
    Problem("internal-error", 500, "The control plane failed", "gateway"),
    Problem("store-unavailable", 503, "A store behind the control plane is away", "gateway"),
)


def problem_body(
    problem: Problem, detail: str, request_id: str, extra: dict[str, object] | None = None
) -> dict[str, object]:
    """Give the members of an application/problem+json body (RFC 9457 section 3).

    Members beyond the RFC's: `code` (the slug), `at_fault`, `request_id`, then `extra`.
    """
    body: dict[str, object] = {
        "type": problem.type_uri,
        "title": problem.title,
        "status": problem.status,
        "detail": detail,
        "code": problem.slug,
        "at_fault": problem.at_fault,
        "request_id": request_id,
    }
    if extra:
        body.update(extra)
    return body
