"""THE LIFE OF A REQUEST, readable aloud. The order of the phases lives here and nowhere else.

In:    an Exchange from the downstream connection, and how to write its Reply.
Out:   exactly one answer written, exactly one record made.
Laws:  1. Every error becomes a problem, unless the reply has begun: then the connection must be cut. 2. Whatever
       happens, the exchange is recorded. 3. Authentication and limits come before memory and origin. 4. Time is
       taken here: phases do not measure themselves. 5. A body that came from an origin is consumed by `write` or
       closed here.
Not here: any decision (phases), any socket (edge.net).
"""

from __future__ import annotations

from collections.abc import Callable

from edge.errors import ClientGone, GatewayError, Retry
from edge.exchange import Exchange
from edge.http.messages import Reply
from edge.phases import (
    address,
    balance,
    cache,
    cors,
    forward,
    identity,
    metadata,
    options,
    ratelimit,
    reply,
    route,
    tenant,
    wellknown,
)
from edge.phases.auth import attempts
from edge.phases.auth.authenticator import Authenticator
from edge.phases.auth.authorise import authorise
from edge.ports import Ports, UpstreamResponse
from edge.snapshot import Route, Tenant

Write = Callable[[Reply], None]


class Pipeline:
    """One per worker. Holds what phases remember between requests; blocks only where ports do."""

    def __init__(self, ports: Ports, auth_failures_max: int = 0) -> None:
        """`auth_failures_max`: credentials of one client that may be refused within a minute; 0: any number."""
        self._ports = ports
        self._mono = ports.clock.mono
        self.attempts = attempts.Attempts(ports.counters, auth_failures_max)
        self._authenticator = Authenticator(ports, self.attempts)
        self._tokens = identity.Tokens(ports.signer, ports.clock.wall)
        self._balancer = balance.Balancer(ports.health)
        self._bulkhead = tenant.Bulkhead()
        self._paths = route.Paths()

    def serve(self, exchange: Exchange, write: Write) -> None:
        """Answer one request by one call of `write`, which returns when the last byte is out.

        Raises GatewayError when the reply broke after it had begun: the connection must be cut. A client that left is
        not an error. Blocks as long as the exchange lives.
        """
        try:
            self._serve(exchange, write)
        except ClientGone:
            exchange.client_gone = True
        except Exception as error:
            failure = exchange.error = error if isinstance(error, GatewayError) else reply.bug(error)
            if exchange.started_reply:
                raise failure from failure.__cause__
            self._write_problem(exchange, failure, write)
        finally:
            exchange.finished_mono = self._mono()
            if exchange.held:
                ratelimit.leave(exchange, self._ports.counters)
            if exchange.upstream_first_mono:
                exchange.upstream_last_mono = exchange.finished_mono
            self._ports.recorder.record(exchange)

    def refuse(self, error: GatewayError, client_ip: str, request_id: bytes) -> Reply:
        """Give the answer to bytes that never became a request, and record them."""
        self._ports.recorder.refused(error, client_ip, request_id)
        return reply.refused(error, request_id)

    def _serve(self, exchange: Exchange, write: Write) -> None:
        owner = tenant.identify(exchange, self._ports.config)
        if owner.addresses is not None:
            address.admit(owner.addresses, exchange.client_ip, "tenant")
        self._bulkhead.enter(owner)
        try:
            made = exchange.reply = self._answer(exchange, owner)
            reply.finish(exchange, made, self._lines(exchange), self._mono())
            exchange.writing = True
            write(made)
        finally:
            self._bulkhead.leave(owner)

    def _answer(self, exchange: Exchange, owner: Tenant) -> Reply:
        ports = self._ports
        head = exchange.head
        method, path = head.method, head.path
        if method == b"OPTIONS":
            if path == b"*":
                return options.of_the_server(exchange)
            answered = self._preflight(exchange, owner) if owner.has_cors else None
            if answered is not None:
                return answered
        if path in wellknown.DOCUMENTS:
            document = wellknown.answer(exchange, owner)
            if document is not None:
                return document
        if owner.takes_oauth and path.startswith(metadata.WELL_KNOWN):
            document = metadata.answer(exchange, owner, ports.sessions.expectation.issuer)
            if document is not None:
                return document
        chosen = route.match(exchange, owner, self._paths)
        if chosen.addresses is not None:
            address.admit(chosen.addresses, exchange.client_ip, "route")
        policies = chosen.policies
        if chosen.auth_mode != "public":
            try:
                principal = self._authenticator.authenticate(exchange, owner, chosen)
                authorise(principal, method, owner, chosen)
            except GatewayError as refused:
                raise metadata.pointed(refused, exchange, chosen) from refused.__cause__
            policies = policies or principal.policies
        if policies:
            ratelimit.admit(exchange, chosen, ports.counters)
        if method == b"OPTIONS":
            answered = options.last_hop(exchange, owner)
            if answered is not None:
                return answered
        plan = chosen.cache
        if plan is None:
            return forward.reply(exchange, chosen, self._send(exchange, owner, chosen))
        stored = cache.lookup(exchange, chosen, plan, ports.cache)
        if stored is not None:
            return stored
        response = self._send(exchange, owner, chosen)
        made = forward.reply(exchange, chosen, response)
        exchange.reply = made
        cache.store(exchange, plan, response, made, ports.cache)
        return made

    def _preflight(self, exchange: Exchange, owner: Tenant) -> Reply | None:
        """Answer what a browser asks before a request of another origin; None where OPTIONS is a request itself."""
        asked = cors.asked_method(exchange)
        chosen = None if asked is None else route.of_preflight(exchange, owner, self._paths, asked)
        if asked is None or chosen is None or chosen.cors is None:
            return None
        if chosen.addresses is not None:
            address.admit(chosen.addresses, exchange.client_ip, "route")
        return cors.preflight(exchange, chosen.cors, asked)

    def _send(self, exchange: Exchange, owner: Tenant, chosen: Route) -> UpstreamResponse:
        """Try candidates until one answers, an error forbids another attempt, or candidates run out."""
        body = forward.upload(exchange, chosen)
        exchange.origin = chosen.origin
        failure: GatewayError | None = None
        for target in self._balancer.candidates(owner, chosen.origin):
            if failure is not None and not forward.may_retry(exchange, failure, target, body):
                break
            exchange.target = target
            exchange.attempts += 1
            fresh = failure is not None and failure.retry is Retry.REUSED_CONNECTION
            if chosen.identity_token:
                self._tokens.introduce(exchange, owner, chosen)
            attempt = forward.request(exchange, owner, chosen, target, body, fresh)
            if failure is None:
                exchange.upstream_start_mono = self._mono()
            try:
                response = self._ports.upstream.send(attempt)
            except GatewayError as error:
                failure = error
                exchange.upstream_last_mono = self._mono()
            else:
                exchange.upstream_first_mono = self._mono()
                return response
        assert failure is not None
        raise failure

    def _lines(self, exchange: Exchange) -> bytes:
        """Give the header lines that phases owe to the answer, whichever it is."""
        lines = b""
        chosen = exchange.route
        if chosen is not None:
            if exchange.verdicts:
                lines = ratelimit.lines(chosen, exchange.verdicts)
            if chosen.cors is not None:
                lines += cors.lines(exchange, chosen.cors)
        if exchange.cache_result is not None:
            lines += cache.lines(exchange)
        return lines

    def _write_problem(self, exchange: Exchange, error: GatewayError, write: Write) -> None:
        """Answer with the problem in place of whatever reply was in the making."""
        made = exchange.reply
        if made is not None and not exchange.writing and not isinstance(made.body, bytes):
            made.body.close()
        exchange.reply = made = reply.problem(error, exchange.request_id)
        reply.finish(exchange, made, self._lines(exchange), self._mono())
        try:
            write(made)
        except ClientGone:
            exchange.client_gone = True
