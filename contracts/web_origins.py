"""Web origins, as browsers write them into `Origin` and as a tenant allows them (WHATWG Fetch and HTML; RFC 6454).

    rule = "*" | "null" | scheme "://" host [":" port] | scheme "://*." domain [":" port]

In:    a rule as a tenant wrote it; the bytes of an Origin field.
Out:   the rule, if it is one; WebOrigins, which says whether an origin is allowed.
Laws:  1. Only the exact serialisation matches: case, port and all (HTML, "ascii serialisation of an origin").
       2. `*` in a host stands for one label, left-most, and at least two labels follow it. 3. `null` is allowed only
       where it is written out.
Not here: what is answered (edge.phases.cors).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Final

from contracts.addresses import DEFAULT_PORTS

ORIGIN_CHARS_MAX: Final = 300
_FORM: Final = re.compile(
    r"([A-Za-z][A-Za-z0-9+.-]*)://(\[[0-9A-Fa-f:.]*\]|[^:/?#\[\]@]*)(?::([0-9]{1,5}))?(.*)", re.DOTALL
)
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_ONE_LABEL: Final = re.compile(rb"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")


class OriginError(ValueError):
    """The text is not a rule; the message is for the person who wrote it."""


def check_rule(text: str) -> str:
    """Give the rule back. Raises OriginError, with the spelling that browsers use where one can be guessed."""
    if text in ("*", "null"):
        return text
    match = _FORM.fullmatch(text)
    if match is None or not text.isascii() or len(text) > ORIGIN_CHARS_MAX:
        raise OriginError("must be an origin like https://app.example.com")
    scheme, host, port, rest = match[1].lower(), match[2].lower(), match[3], match[4]
    if port is not None and int(port) > 65535:
        raise OriginError("its port must be at most 65535")
    spelled = f"{scheme}://{_host(host)}"
    if port is not None and int(port) != DEFAULT_PORTS.get(scheme):
        spelled += f":{int(port)}"
    if rest or spelled != text:
        raise OriginError(f"must be written as browsers send it: {spelled}")
    return text


def _host(host: str) -> str:
    if host.startswith("["):
        try:
            return f"[{ipaddress.IPv6Address(host[1:-1])}]"
        except ValueError:
            raise OriginError("its IPv6 address is malformed") from None
    name = host.removeprefix("*.")
    labels = name.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise OriginError("its host is not a DNS name")
    if name != host and (len(labels) < 2 or labels[-1].isdigit()):
        raise OriginError("its * must stand before a domain of at least two labels, like https://*.example.com")
    return host


class WebOrigins:
    """Checked rules, ready to be asked. `any`: `*` is among them."""

    __slots__ = ("_exact", "_patterns", "any")

    def __init__(self, rules: Iterable[str]) -> None:
        octets = {rule.encode("ascii") for rule in rules}
        self.any = b"*" in octets
        patterns = {rule for rule in octets if b"://*." in rule}
        self._exact = frozenset(octets - patterns - {b"*"})
        self._patterns = tuple(
            (before, b"." + after) for before, _, after in (rule.partition(b"*.") for rule in sorted(patterns))
        )

    def allow(self, origin: bytes) -> bool:
        """Whether a page of this origin may call. Complexity: linear in the patterns."""
        if self.any or origin in self._exact:
            return True
        for before, after in self._patterns:
            if origin.startswith(before) and origin.endswith(after):
                label = origin[len(before) : len(origin) - len(after)]
                if _ONE_LABEL.fullmatch(label):
                    return True
        return False

    def __repr__(self) -> str:
        return f"<WebOrigins {'*' if self.any else len(self._exact) + len(self._patterns)}>"
