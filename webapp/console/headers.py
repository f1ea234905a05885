"""The security headers of every HTML answer.

In:    the Clerk instance's address, whether this is production.
Out:   headers on the response.
Laws:  1. No inline script, no inline style, nothing from another host but Clerk's own script and calls to it. 2. Only
       the sign-in page is looser, as far as Clerk's widget needs. 3. No page is stored.
Not here: forgery (webapp.auth.console).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from flask import Response

_FIXED: Final[Mapping[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cache-Control": "no-store",
}
_HSTS: Final = "max-age=63072000; includeSubDomains"


def content_security_policy(clerk_url: str, loose: bool = False) -> str:
    """Give the policy; `loose` is for the page that mounts Clerk's widget."""
    directives = {
        "default-src": "'none'",
        "script-src": f"'self' {clerk_url}",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "font-src": "'self'",
        "connect-src": f"'self' {clerk_url}",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    if loose:
        # Clerk's widget sets styles of its own, shows avatars, runs a worker and a challenge against robots.
        directives["script-src"] += " https://challenges.cloudflare.com"
        directives["style-src"] += " 'unsafe-inline'"
        directives["img-src"] += " https://img.clerk.com"
        directives["frame-src"] = "https://challenges.cloudflare.com"
        directives["worker-src"] = "'self' blob:"
    return "; ".join(f"{name} {value}" for name, value in directives.items())


def protect(response: Response, clerk_url: str, secure: bool, loose: bool = False) -> Response:
    """Put the headers on a response; `secure` says that the console is served by https."""
    for name, value in _FIXED.items():
        response.headers[name] = value
    response.headers["Content-Security-Policy"] = content_security_policy(clerk_url, loose)
    if secure:
        response.headers["Strict-Transport-Security"] = _HSTS
    return response
