"""The CORS protocol's answers (WHATWG Fetch, "CORS protocol"): what browsers are told about pages of other origins.

In:    CorsConfig and the methods of a route; the fields of a request.
Out:   header lines for an answer and for a preflight; which method a preflight asks about.
Laws:  1. An origin that is not allowed is told nothing: no CORS field at all, whatever is wrong with it. Two Origin
       fields are no origin. 2. An allowed origin is echoed as it was sent, because that is what it was compared with;
       `*` is said only where there are no credentials, and then to everybody. 3. What depends on Origin says
       Vary: Origin, also where it was not sent: a cache must not give one origin's answer to another. 4. Nothing the
       client wrote is echoed unless it has the form of a token or is an allowed origin.
       5. Access-Control-Request-Private-Network is not answered: no public page is let into a private network by a
       field alone.
Not here: which route a preflight is about (edge.phases.route), when it is answered (edge.pipeline).
"""

from __future__ import annotations

from typing import Final

from contracts.snapshot import CorsConfig
from contracts.web_origins import WebOrigins
from edge.http.fields import members
from edge.http.grammar import TOKEN
from edge.http.messages import FieldSection

ORIGINS_OWN: Final = frozenset({
    b"access-control-allow-credentials", b"access-control-allow-headers", b"access-control-allow-methods",
    b"access-control-allow-origin", b"access-control-allow-private-network", b"access-control-expose-headers",
    b"access-control-max-age",
})  # fmt: skip
"""What an origin says of its own is left out where the gateway speaks: two of a field would be none."""
_CREDENTIALS: Final = b"Access-Control-Allow-Credentials: true\r\n"
_VARY: Final = b"Vary: Origin\r\n"
_VARY_PREFLIGHT: Final = b"Vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers\r\n"


class CorsPlan:
    """A route's CorsConfig made ready. `methods`: those a page may use. Raises nothing for what is validated."""

    __slots__ = ("_any_header", "_behind", "_origins", "_preflight")

    def __init__(self, config: CorsConfig, methods: tuple[bytes, ...]) -> None:
        self._origins = WebOrigins(config.origins)
        credentials = _CREDENTIALS if config.credentials and not self._origins.any else b""
        self._behind = credentials + _listing(b"Access-Control-Expose-Headers", config.expose)
        """What follows an allowed origin on an answer."""
        self._any_header = config.headers == ("*",)
        names = [] if self._any_header else [_listing(b"Access-Control-Allow-Headers", config.headers)]
        self._preflight = b"".join([
            credentials, b"Access-Control-Allow-Methods: %b\r\n" % b", ".join(methods), *names,
            b"Access-Control-Max-Age: %d\r\n" % config.max_age_s,
        ])  # fmt: skip

    def answer_lines(self, section: FieldSection) -> bytes:
        """Give the lines of an answer to a request. Complexity: one look-up for fields seen before."""
        kept = section.derived.get("cors")
        if kept is not None and kept[0] is self:
            remembered: bytes = kept[1]
            return remembered
        allowed = self.allowed(section)
        lines = b"" if allowed is None else b"Access-Control-Allow-Origin: %b\r\n%b" % (allowed, self._behind)
        if not self._origins.any:
            lines += _VARY
        section.derived["cors"] = (self, lines)
        return lines

    def preflight_lines(self, section: FieldSection) -> bytes:
        """Give all lines of the answer to a preflight."""
        allowed = self.allowed(section)
        if allowed is None:
            return _VARY_PREFLIGHT
        headers = b""
        if self._any_header:
            headers = _asked_headers(section)
        return b"Access-Control-Allow-Origin: %b\r\n%b%b%b" % (allowed, self._preflight, headers, _VARY_PREFLIGHT)

    def allowed(self, section: FieldSection) -> bytes | None:
        """Give what Access-Control-Allow-Origin says, None for nothing."""
        if self._origins.any:
            return b"*"
        sent = section.index.get(b"origin", ())
        return sent[0] if len(sent) == 1 and self._origins.allow(sent[0]) else None

    def __repr__(self) -> str:
        return f"<CorsPlan {self._origins!r}>"


def asked_method(section: FieldSection) -> bytes | None:
    """Give the method that a preflight asks about, None for an OPTIONS that is no preflight (Fetch, "CORS-preflight
    request": it carries Origin and Access-Control-Request-Method)."""
    asked = section.index.get(b"access-control-request-method", ())
    if len(asked) != 1 or b"origin" not in section.index or TOKEN.fullmatch(asked[0]) is None:
        return None
    return asked[0]


def _asked_headers(section: FieldSection) -> bytes:
    """Allow the names that are asked for: `*` itself would not cover Authorization, nor anything with credentials."""
    names = members(b",".join(section.index.get(b"access-control-request-headers", ())).lower())
    if not names or not all(TOKEN.fullmatch(name) for name in names):
        return b""
    return b"Access-Control-Allow-Headers: %b\r\n" % b", ".join(dict.fromkeys(names))


def _listing(name: bytes, words: tuple[str, ...]) -> bytes:
    return b"%b: %b\r\n" % (name, ", ".join(words).encode("ascii")) if words else b""
