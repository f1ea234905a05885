"""The line a developer pastes to try a route.

In:    the tenant's edge address, a route.
Out:   one curl command.
Laws:  1. The line is quoted for a POSIX shell whatever the pattern holds.
Not here: sending anything.
"""

from __future__ import annotations

import re
import shlex

from webapp.schemas.access import accepted
from webapp.schemas.route import RouteView

_CAPTURE = re.compile(r"\{[^}]*\}")


def example_path(pattern: str) -> str:
    """Give a path the pattern fits: one segment for a name in braces, nothing below for the final `*`."""
    return _CAPTURE.sub("1", pattern.removesuffix("/*") or "/")


def curl_for_route(edge_url: str, route: RouteView, key: str = "YOUR_API_KEY") -> str:
    words = ["curl", "-i"]
    if route.methods and "GET" not in route.methods:
        words += ["-X", route.methods[0]]
    words.append(shlex.quote(edge_url + example_path(route.path_pattern)))
    line = " ".join(words)
    kinds = accepted(route.auth_mode, route.accept)
    if "apikey" in kinds:
        line += f" -H {shlex.quote(f'X-API-Key: {key}')}"
    elif kinds:
        line += ' -H "Authorization: Bearer $TOKEN"'
    return line
