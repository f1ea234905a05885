"""Load on a running edge, from one machine: how many answers a second, and how many were not 2xx.

Run:   make load-test      (or: python -m bench.load [URL] [--connections 64] [--seconds 10] [--header "Name: value"])
Not here: what a request costs beside peers (make bench).
"""

from __future__ import annotations

import argparse
import os
import sys
from urllib.parse import urlsplit

from bench.generator import run


def main() -> int:
    port = os.environ.get("EDGE_PORT", "8000")
    parser = argparse.ArgumentParser(prog="bench.load", description="Load on a running edge.")
    parser.add_argument("url", nargs="?", default=f"http://demo.localhost:{port}/api/public/posts/1")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--header", action="append", default=[], metavar="NAME: VALUE")
    options = parser.parse_args()
    parts = urlsplit(options.url)
    fields = [f"Host: {parts.netloc}", *options.header]
    # Names under .localhost are this machine (RFC 6761 section 6.3), whatever its resolver says.
    host = "127.0.0.1" if (parts.hostname or "").endswith("localhost") else parts.hostname
    target = f"{parts.scheme}://{host}:{parts.port or 80}{parts.path}"
    try:
        result = run(target, options.connections, options.seconds, fields)
    except OSError as error:
        print(f"load: {options.url}: {error.strerror or error}; is the edge running (make demo)?", file=sys.stderr)
        return 1
    rate = result["requests"] / options.seconds
    print(f"{result['requests']} answers in {options.seconds:g} s, {rate:.0f}/s, {result['errors']} not 2xx or cut")
    return 0


if __name__ == "__main__":
    sys.exit(main())
