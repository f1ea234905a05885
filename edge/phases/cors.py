"""Pages of other origins: preflights answered here, and the CORS fields of every answer of a route with CORS.

In:    the route that a preflight asks about; any answer of such a route, problems and stored ones included.
Out:   exchange.preflight; a Reply to the preflight; lines.
Laws:  1. A preflight carries no credentials by design (Fetch, "CORS-preflight fetch"), so it is answered before
       authentication and limits, and never reaches an origin. 2. Its answer is the same whatever the path holds: it
       tells of the route, not of a resource.
Not here: the protocol's fields (edge.http.cors), which route (edge.phases.route).
"""

from __future__ import annotations

from edge.exchange import Exchange
from edge.http import cors
from edge.http.cors import CorsPlan
from edge.http.messages import Reply


def asked_method(exchange: Exchange) -> bytes | None:
    """Give the method of the request that a preflight announces; None when the OPTIONS is none."""
    return cors.asked_method(exchange.head.section)


def preflight(exchange: Exchange, plan: CorsPlan, asked: bytes) -> Reply:
    exchange.preflight = asked
    return Reply(204, b"No Content", plan.preflight_lines(exchange.head.section), b"")


def lines(exchange: Exchange, plan: CorsPlan) -> bytes:
    """Give the lines of an answer that is no preflight's: that one has them all."""
    return b"" if exchange.preflight else plan.answer_lines(exchange.head.section)
