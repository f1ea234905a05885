"""The gateways that are compared, one file each, with what each is asked.

In:    a Lab.
Out:   name -> a function that starts the gateway and gives its asks; it raises Absent where it is not installed.
Laws:  1. Each gets one worker, keep-alive on both sides, and equivalent work: for the full chain a key check (where it
       has one), a rate limit that is never reached, a JSON access log in a file, and what metrics it keeps.
       2. What a gateway cannot do is said in its name or its file.
"""

from __future__ import annotations

from collections.abc import Callable

from bench.lab import Ask, Lab
from bench.peers import caddy, edge, envoy, haproxy, nginx, traefik, varnish

PEERS: dict[str, Callable[[Lab], list[Ask]]] = {
    "edge": edge.start,
    "nginx": nginx.start,
    "haproxy": haproxy.start,
    "varnish": varnish.start,
    "caddy": caddy.start,
    "envoy": envoy.start,
    "traefik": traefik.start,
}
